"""One policy's training step as an explicit program: its kernels in order, its tensors and how long each lives.

`devices.memory` adds up the same step for N policies at once; here it is written out for one, so that offsets can be
assigned (`devices.plan`), the peak shown part by part, and the step executed or exported. A tensor is named by its kind
and the row of the trace that it belongs to; what a kernel computes follows from its phase, the row and the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from ...spaces.trace import INPUT
from .columns import Ints
from .sizes import Schedule


class Kind(StrEnum):
    """What a tensor is.

    Of a row of the trace: parameters: those that train (eager: all), first of the weight, then of the bias, and after
    them the running statistics where all are in RAM; statistics: running means, then variances, that the step updates;
    state: of the optimizer, as large as what trains for each value that it keeps; activation: the row's output (of
    `INPUT` the images); kept: what its forward keeps besides outputs: packed masks, chosen input channels, means and
    inverse deviations; gradient: of the row's output; weight_gradient: of what trains, laid out as the parameters are;
    scratch: for one kernel alone.
    """

    PARAMETERS = "parameters"
    STATISTICS = "statistics"
    STATE = "state"
    ACTIVATION = "activation"
    KEPT = "kept"
    GRADIENT = "gradient"
    WEIGHT_GRADIENT = "weight_gradient"
    SCRATCH = "scratch"


class Part(StrEnum):
    """What memory is used for, in words; `saved` are activations, masks and copies kept for the backward pass."""

    WEIGHTS = "weights"
    STATE = "optimizer state"
    WEIGHT_GRADIENTS = "weight gradients"
    IMAGES = "images"
    SAVED = "saved"
    ACTIVATIONS = "activations"
    GRADIENTS = "gradients"
    SCRATCH = "scratch"


_PARTS = {
    Kind.PARAMETERS: Part.WEIGHTS,
    Kind.STATISTICS: Part.WEIGHTS,
    Kind.STATE: Part.STATE,
    Kind.KEPT: Part.SAVED,
    Kind.GRADIENT: Part.GRADIENTS,
    Kind.WEIGHT_GRADIENT: Part.WEIGHT_GRADIENTS,
    Kind.SCRATCH: Part.SCRATCH,
}
#: What a tensor is named by.
Key = tuple[Kind, int]


class Phase(StrEnum):
    """What a step of the program does with its row.

    forward: computes the output; loss: its value, and the gradient of the logits; weight_gradient, input_gradient:
    of the row; backward: both at once (eager); update: of what trains in the row (eager: of everything, at the end).
    """

    FORWARD = "forward"
    LOSS = "loss"
    WEIGHT_GRADIENT = "weight_gradient"
    INPUT_GRADIENT = "input_gradient"
    BACKWARD = "backward"
    UPDATE = "update"


#: Kinds that are there before a step and after it.
PERSISTENT = (Kind.PARAMETERS, Kind.STATISTICS, Kind.STATE)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor and the time that it lives.

    Attributes:
        kind: What it is.
        row: Row of the trace that it belongs to; `INPUT` for the images.
        bytes: Size, rounded up to the alignment.
        first: Number of the first step that has it.
        last: Number of the last.
        buffer: Number of the memory that it lies in: a tensor that overwrites another has the other's.
    """

    kind: Kind
    row: int
    bytes: int
    first: int
    last: int
    buffer: int


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel.

    Attributes:
        phase: What it does.
        row: Row of the trace that it does it with.
        reads: Tensors that it reads, by number.
        writes: Tensors that it writes or adds to, by number; scratch included.
    """

    phase: Phase
    row: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A piece of memory, and the time that it is taken.

    Attributes:
        bytes: Size.
        first: First step.
        last: Last step.
    """

    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Program:
    """A training step of one policy.

    Attributes:
        schedule: The network, the device, the batch.
        optimizer: adam, sgd or sgd-momentum.
        steps: The kernels in the order in which they run.
        tensors: All tensors in RAM.
    """

    schedule: Schedule
    optimizer: str
    steps: tuple[Step, ...]
    tensors: tuple[Tensor, ...] = field(repr=False)

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """The memory that the tensors lie in, by number."""
        members: dict[int, list[Tensor]] = {}
        for tensor in self.tensors:
            members.setdefault(tensor.buffer, []).append(tensor)
        return tuple(
            Buffer(members[n][0].bytes, min(t.first for t in members[n]), max(t.last for t in members[n]))
            for n in range(len(members))
        )

    @cached_property
    def live_bytes(self) -> Ints:
        """Bytes that are live in each step."""
        change = np.zeros(len(self.steps) + 1, np.int64)
        for buffer in self.buffers:
            change[buffer.first] += buffer.bytes
            change[buffer.last + 1] -= buffer.bytes
        return np.cumsum(change)[:-1]

    @property
    def peak_bytes(self) -> int:
        """The largest sum of live bytes: no arrangement in memory can do with less."""
        return int(self.live_bytes.max())

    @property
    def peak_step(self) -> int:
        """The first step that has it."""
        return int(self.live_bytes.argmax())

    def part(self, tensor: int) -> Part:
        """What a tensor, by number, uses its memory for."""
        kind, row = self.tensors[tensor].kind, self.tensors[tensor].row
        if kind != Kind.ACTIVATION:
            return _PARTS[kind]
        return Part.IMAGES if row == INPUT else Part.SAVED if tensor in self._saved else Part.ACTIVATIONS

    @cached_property
    def _saved(self) -> set[int]:
        backward = (Phase.BACKWARD, Phase.WEIGHT_GRADIENT, Phase.INPUT_GRADIENT)
        return {number for step in self.steps if step.phase in backward for number in step.reads}

    def parts(self) -> Mapping[Part, int]:
        """What the peak is made of, in bytes.

        Memory that one tensor takes over from another in that step counts as the one that the step writes.
        """
        owners: dict[int, int] = {}
        for number, tensor in enumerate(self.tensors):
            if tensor.first <= self.peak_step <= tensor.last:
                known = owners.get(tensor.buffer)
                if known is None or self.tensors[known].first < tensor.first:
                    owners[tensor.buffer] = number
        sums = dict.fromkeys(Part, 0)
        for number in owners.values():
            sums[self.part(number)] += self.tensors[number].bytes
        return {part: size for part, size in sums.items() if size}
