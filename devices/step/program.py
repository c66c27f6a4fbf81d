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
        row: Row of the trace that it does it with; of several the last.
        reads: Tensors that it reads, by number.
        writes: Tensors that it writes or adds to, by number; scratch included.
        rows: All rows that it does it with, in data-flow order.
    """

    phase: Phase
    row: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A piece of memory, and the time that it is taken.

    Attributes:
        spans: The tensors that lie in it one after another, as bytes, first and last operation: each takes the place of
            the one before, in the operation in which that dies.
    """

    spans: tuple[tuple[int, int, int], ...]

    def taken(self, operation: int) -> int:
        """Bytes of it that are taken in an operation, by number."""
        return next((size for size, first, last in self.spans if first <= operation <= last), 0)

    @property
    def bytes(self) -> int:
        """Size."""
        return max(size for size, _, _ in self.spans)

    @property
    def first(self) -> int:
        """First operation."""
        return self.spans[0][1]

    @property
    def last(self) -> int:
        """Last operation."""
        return self.spans[-1][2]


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
        return tuple(Buffer(_spans(members[n])) for n in range(len(members)))

    @cached_property
    def live_bytes(self) -> Ints:
        """Bytes that are live in each operation."""
        change = np.zeros(len(self.operations) + 1, np.int64)
        for size, first, last in (span for buffer in self.buffers for span in buffer.spans):
            change[first] += size
            change[last + 1] -= size
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
        backward = (Phase.BACKWARD, Phase.BACKWARD_BY_CHANNELS, Phase.WEIGHT_GRADIENT, Phase.INPUT_GRADIENT)
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
        for buffer, number in owners.items():
            sums[self.part(number)] += self.buffers[buffer].taken(self.peak_number)
        return {part: size for part, size in sums.items() if size}


def _spans(tensors: list[Tensor]) -> tuple[tuple[int, int, int], ...]:
    """How much of a buffer is taken when: what is smaller than the tensor before it from the next operation on."""
    found: list[tuple[int, int, int]] = []
    for tensor in sorted(tensors, key=lambda tensor: (tensor.first, tensor.last)):
        if found and tensor.bytes == found[-1][0]:
            found[-1] = (tensor.bytes, found[-1][1], max(found[-1][2], tensor.last))
        elif found:
            found.append((tensor.bytes, found[-1][2] + 1, tensor.last))
        else:
            found.append((tensor.bytes, tensor.first, tensor.last))
    return tuple(span for span in found if span[1] <= span[2])
