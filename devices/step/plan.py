"""Memory plans: an offset for every tensor of a training step, so that no two that live at once overlap.

To find the smallest arena is NP-hard (dynamic storage allocation). Tensors are placed one after another, each into the
lowest gap that it fits (first-fit), in a few orders; then the tensor that ends highest is moved to the front of the
order, a few times, as long as the arena is larger than the lower bound, which is the largest sum of live bytes.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_atomically
from ...core.formats import Format
from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from ..profile import DeviceProfile
from .columns import Ints
from .compiler import compile_step
from .program import Buffer, Program

#: How often the order of the smallest arena so far is changed in search of a smaller one.
ATTEMPTS = 30


@dataclass(frozen=True, slots=True)
class Area:
    """A contiguous piece of RAM: a region of a profile, or several that adjoin.

    Attributes:
        name: Such as SRAM1+SRAM2.
        size: Bytes.
    """

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer lies.

    Attributes:
        area: Number of the area.
        offset: Bytes from its start.
    """

    area: int
    offset: int


@dataclass(frozen=True)
class Plan:
    """A program's buffers in memory.

    Attributes:
        program: The training step.
        areas: The areas that were offered; the first is the arena's.
        places: Where each of the program's buffers lies.
    """

    FORMAT = Format("tinysearch.plan", 1, "memory plan")

    program: Program
    areas: tuple[Area, ...]
    places: tuple[Place, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes that are used of each area, from its start to the end of its highest buffer."""
        ends = [0] * len(self.areas)
        for place, buffer in zip(self.places, self.program.buffers, strict=True):
            ends[place.area] = max(ends[place.area], place.offset + buffer.bytes)
        return tuple(ends)

    @property
    def size(self) -> int:
        """Bytes of all areas together."""
        return sum(self.sizes)

    @property
    def lower_bound(self) -> int:
        """The largest sum of live bytes: what no plan can go below."""
        return self.program.peak_bytes

    @property
    def gap(self) -> float:
        """Share by which the plan exceeds the lower bound."""
        return self.size / self.lower_bound - 1

    @property
    def fits(self) -> bool:
        """Whether each area holds what was put into it."""
        return all(used <= area.size for used, area in zip(self.sizes, self.areas, strict=True))

    def place(self, tensor: int) -> Place:
        """Where a tensor of the program lies."""
        return self.places[self.program.tensors[tensor].buffer]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, format version 1: what a generator of code needs, in the order of execution."""
        setting = self.program.setting
        content = {
            "backbone": setting.trace.name,
            "input_shape": list(setting.trace.input_shape),
            "device": setting.profile.name,
            "batch": setting.batch,
            "optimizer": setting.optimizer,
            "alignment": setting.alignment,
            "lower_bound": self.lower_bound,
            "areas": [
                {"name": area.name, "size": area.size, "used": used}
                for area, used in zip(self.areas, self.sizes, strict=True)
            ],
            "tensors": [
                {
                    "kind": tensor.kind.value,
                    "layer": self._layer(tensor.row),
                    "area": self.place(number).area,
                    "offset": self.place(number).offset,
                    "bytes": tensor.bytes,
                    "first": tensor.first,
                    "last": tensor.last,
                }
                for number, tensor in enumerate(self.program.tensors)
            ],
            "steps": [
                {
                    "phase": operation.phase.value,
                    "layer": self._layer(operation.row),
                    "layers": [self._layer(row) for row in operation.rows],
                    "reads": list(operation.reads),
                    "writes": list(operation.writes),
                }
                for operation in self.program.operations
            ],
        }
        return self.FORMAT.values(content)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return self.FORMAT.text(self.to_dict())

    def save(self, path: str | Path) -> Path:
        """Write the plan as JSON and return the file's path."""
        return write_atomically(Path(path), self.to_json())

    def _layer(self, row: int) -> str:
        return "" if row == INPUT else self.program.setting.trace.rows[row].name


def find_areas(profile: DeviceProfile) -> tuple[Area, ...]:
    """The contiguous pieces of a device's RAM, the largest first, of which no more is offered than a step may use.

    All of the RAM is one piece where the profile lists no regions.
    """
    areas: list[Area] = []
    for region in profile.memory.regions:
        if region.adjoins and areas:
            areas[-1] = Area(f"{areas[-1].name}+{region.name}", areas[-1].size + region.size)
        else:
            areas.append(Area(region.name, region.size))
    areas = areas or [Area("RAM", profile.memory.capacity.value)]
    first, *others = sorted(areas, key=lambda area: -area.size)
    budget = profile.memory.budget.value if profile.memory.kind == "arena" else first.size
    return Area(first.name, min(first.size, budget)), *others


def make_plan(program: Program, areas: Sequence[Area] | None = None) -> Plan:
    """Assign an offset to every buffer of a program.

    Args:
        program: The training step.
        areas: The RAM to use, none of whose borders a buffer straddles. The first is filled first; what an area
            cannot hold goes into the next, and what none can, into the first, beyond its end. Without it the
            device's largest contiguous piece.
    """
    offered = tuple(areas or find_areas(program.setting.profile)[:1])
    buffers = program.buffers
    numbers = range(len(buffers))
    duration = [buffer.last - buffer.first for buffer in buffers]
    # What stays for the whole step lies at the start, in one piece.
    longest = len(program.operations) - 1
    lasting = [n for n in numbers if duration[n] == longest]
    passing = [n for n in numbers if duration[n] < longest]
    # Largest, longest, largest times longest, earliest: each is best for some policies.
    keys = (
        lambda n: (-buffers[n].bytes, buffers[n].first),
        lambda n: (-duration[n], -buffers[n].bytes),
        lambda n: (-buffers[n].bytes * (duration[n] + 1), buffers[n].first),
        lambda n: (buffers[n].first, -duration[n]),
    )
    best: _Layout | None = None
    for key in keys:
        layout = _Layout.fill(buffers, lasting + sorted(passing, key=key), offered)
        best = layout if best is None or layout.size < best.size else best
        if best.size == program.peak_bytes:
            break
    assert best is not None
    current = best
    for _ in range(ATTEMPTS):
        if best.size == program.peak_bytes:
            break
        current = _Layout.fill(buffers, current.highest_first(buffers, len(lasting)), offered)
        best = current if current.size < best.size else best
    return Plan(program, offered, tuple(best.places[n] for n in numbers))


def find_plan(arena: Plan) -> Plan:
    """A plan in the largest area, as it is, or one over all areas if the step fits only there."""
    areas = find_areas(arena.program.setting.profile)
    if arena.fits or len(areas) == 1:
        return arena
    spread = make_plan(arena.program, areas)
    return spread if spread.fits else arena


def arena_bytes(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Ints:
    """Sizes of the arenas that N policies need, (N,), each planned in some hundredths of a second."""
    programs = (compile_step(table[n : n + 1], profile, batch, optimizer) for n in range(len(table)))
    return np.array([make_plan(program).size for program in programs], np.int64)


#: A piece of memory that is taken: its offset and end, and the first and last operation.
Taken = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Layout:
    order: list[int]
    places: dict[int, Place]
    size: int

    @classmethod
    def fill(cls, buffers: Sequence[Buffer], order: list[int], areas: Sequence[Area]) -> "_Layout":
        """Place buffers in the given order."""
        placed: list[list[Taken]] = [[] for _ in areas]
        places: dict[int, Place] = {}
        for number in order:
            buffer = buffers[number]
            fits = [_lowest_gap(placed[area], buffer) for area in range(len(areas))]
            offset, area = next(
                ((fits[n], n) for n in range(len(areas)) if fits[n] + buffer.bytes <= areas[n].size), (fits[0], 0)
            )
            places[number] = Place(area, offset)
            for size, first, last in buffer.spans:
                insort(placed[area], (offset, offset + size, first, last))
        return cls(order, places, sum(max((end for _, end, _, _ in area), default=0) for area in placed))

    def highest_first(self, buffers: Sequence[Buffer], lasting: int) -> list[int]:
        """The order with the buffer that ends highest next after those that last."""
        passing = self.order[lasting:]
        highest = max(passing, key=lambda n: self.places[n].offset + buffers[n].bytes)
        return [*self.order[:lasting], highest, *(n for n in passing if n != highest)]


def _lowest_gap(placed: list[Taken], buffer: Buffer) -> int:
    """The lowest offset at which a buffer overlaps none of those that live when it does."""
    offset, settled = 0, False
    while not settled:
        start = offset
        for size, first, last in buffer.spans:
            offset = _gap_above(offset, placed, size, first, last)
        settled = offset == start or len(buffer.spans) == 1
    return offset


def _gap_above(offset: int, placed: list[Taken], size: int, since: int, until: int) -> int:
    """The lowest offset from one on at which so many bytes are free for a time."""
    for start, end, first, last in placed:
        if last < since or first > until:
            continue
        if start - offset >= size:
            break
        offset = max(offset, end)
    return offset
