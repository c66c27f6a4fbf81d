"""One policy's training step as an explicit program: its operations in order, its tensors and how long each lives.

`peak` adds up the same step for N policies at once; here it is written out for one, so that offsets can be assigned
(`plan`), the peak shown part by part, and the step executed or exported. A tensor is named by its kind and the row of
the trace that it belongs to; what an operation computes follows from its phase, the row and the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from ...spaces.trace import INPUT
from .columns import Ints
from .setting import StepSetting
from .tensors import Kind
from .walk import Phase


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


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor and the time that it lives.

    Attributes:
        kind: What it is.
        row: Row of the trace that it belongs to; `INPUT` for the images.
        bytes: Size, rounded up to the alignment.
        first: Number of the first operation that has it.
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
class Operation:
    """One operation of the step.

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
        first: First operation.
        last: Last operation.
    """

    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Program:
    """A training step of one policy.

    Attributes:
        setting: The network, the device, the batch, the optimizer.
        operations: In the order in which they run.
        tensors: All tensors in RAM.
    """

    setting: StepSetting
    operations: tuple[Operation, ...]
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
        """Bytes that are live in each operation."""
        change = np.zeros(len(self.operations) + 1, np.int64)
        for buffer in self.buffers:
            change[buffer.first] += buffer.bytes
            change[buffer.last + 1] -= buffer.bytes
        return np.cumsum(change)[:-1]

    @property
    def peak_bytes(self) -> int:
        """The largest sum of live bytes: no arrangement in memory can do with less."""
        return int(self.live_bytes.max())

    @property
    def peak_number(self) -> int:
        """Number of the first operation that has it."""
        return int(self.live_bytes.argmax())

    @property
    def peak_operation(self) -> Operation:
        """The first operation that has it."""
        return self.operations[self.peak_number]

    def part(self, tensor: int) -> Part:
        """What a tensor, by number, uses its memory for."""
        kind, row = self.tensors[tensor].kind, self.tensors[tensor].row
        if kind != Kind.ACTIVATION:
            return _PARTS[kind]
        return Part.IMAGES if row == INPUT else Part.SAVED if tensor in self._saved else Part.ACTIVATIONS

    @cached_property
    def _saved(self) -> set[int]:
        backward = (Phase.BACKWARD, Phase.WEIGHT_GRADIENT, Phase.INPUT_GRADIENT)
        return {number for operation in self.operations if operation.phase in backward for number in operation.reads}

    def parts(self) -> Mapping[Part, int]:
        """What the peak is made of, in bytes.

        Memory that one tensor takes over from another in that operation counts as the one that is written.
        """
        owners: dict[int, int] = {}
        for number, tensor in enumerate(self.tensors):
            if tensor.first <= self.peak_number <= tensor.last:
                known = owners.get(tensor.buffer)
                if known is None or self.tensors[known].first < tensor.first:
                    owners[tensor.buffer] = number
        sums = dict.fromkeys(Part, 0)
        for number in owners.values():
            sums[self.part(number)] += self.tensors[number].bytes
        return {part: size for part, size in sums.items() if size}
