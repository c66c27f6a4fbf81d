"""What a device profile holds: one device and one runtime, each number with its source or marked as assumed.

`devices.profile.reader` reads these records from YAML files, `writer` writes them; the format is told in
docs/device-profiles.md.
"""

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from ...core.formats import Format
from ...spaces.optimizers import OptimizerName
from .kernels import Latency
from .quantities import Bytes, Hertz, Origin, Record, Sourced, Watts
from .schema import profile_schema


class Region(Record):
    """A contiguous piece of memory.

    Attributes:
        name: Such as SRAM1.
        size: Bytes.
        adjoins: Whether it goes on where the region before it ends, so that one tensor may lie in both.
        origin: Its first address, for whoever links a program; None where nobody said.
    """

    name: str
    size: Bytes
    adjoins: bool = False
    origin: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class Dtypes(Record):
    """Bytes of an element.

    Attributes:
        activation: Of activations, running and kept.
        frozen: Of weights that do not train.
        trained: Of weights that train and of their optimizer state.
        gradient: Of gradients.
    """

    activation: Literal[1, 2, 4]
    frozen: Literal[1, 2, 4]
    trained: Literal[1, 2, 4]
    gradient: Literal[1, 2, 4]


class Schedule(Record):
    """In what order the runtime of an arena does a step, so that less lives at once; without it, layer by layer.

    Attributes:
        line_by_line: What lies below all that trains runs line by line through ring buffers, nothing computed twice.
        image: held: in RAM until it was read; lines: asked for line by line where its readers run line by line.
        strided_in_place: A depthwise convolution of stride 2 overwrites its input too.
        fused_updates: A weight gradient is added to the weight as it is computed, so that no tensor of it exists.
        by_channels: An inverted residual runs a few channels at a time, forward and backward, so that no expanded map
            exists but what is kept, nor a gradient of one.
        one_by_one: A batch is that many passes of one image, whose weight gradients are added up.
    """

    line_by_line: bool = False
    image: Literal["held", "lines"] = "held"
    strided_in_place: bool = False
    fused_updates: bool = False
    by_channels: bool = False
    one_by_one: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.image == "lines" and not self.line_by_line:
            raise ValueError("an image is read by lines only where what reads it runs line_by_line")
        if self.by_channels and not self.fused_updates:
            raise ValueError("by_channels needs fused_updates: its backward pass meets each weight once")
        return self


class WorkingSet(Origin):
    """What a process grows by in a training step, as the operating system sees it: allocator and scratch included.

    The sum of these factors times what the cost models predict, and a constant.

    Attributes:
        peak: Of the peak.
        saved: Of what is kept for the backward pass, which fragments the heap.
        largest: Of the largest activation, which kernels make reordered copies of.
        constant: Bytes besides.
    """

    peak: Annotated[float, Field(ge=0)] = 0.0
    saved: Annotated[float, Field(ge=0)] = 0.0
    largest: Annotated[float, Field(ge=0)] = 0.0
    constant: Bytes = 0


class Memory(Record):
    """The RAM.

    Attributes:
        kind: eager: tensors come and go as in PyTorch, weights lie in RAM; arena: one static arena, frozen weights
            in flash, each update applied at once.
        capacity: Bytes of RAM.
        budget: Bytes that a training step may use unless the user says otherwise; of an arena its size.
        baseline: Bytes that runtime and program hold besides; never part of a peak.
        working_set: What a process grows by on top of the baseline.
        regions: The pieces that the RAM is made of; an arena lies in one of them, or in some that adjoin.
        alignment: Tensors of an arena start at multiples of so many bytes.
        dtypes: Bytes of an element.
        schedule: In what order an arena's runtime does a step.
    """

    kind: Literal["eager", "arena"]
    capacity: Sourced[Bytes]
    budget: Sourced[Bytes]
    baseline: Sourced[Bytes]
    working_set: WorkingSet | None = None
    regions: tuple[Region, ...] = ()
    alignment: Literal[1, 2, 4, 8, 16, 32] = 4
    dtypes: Dtypes
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "eager" and self.schedule != Schedule():
            raise ValueError("a schedule is that of an arena's runtime; an eager one has its own")
        if self.budget.value == 0:
            raise ValueError("a budget of 0 B holds no training step")
        if self.budget.value > self.capacity.value:
            raise ValueError(f"the budget of {self.budget.value} B exceeds the capacity of {self.capacity.value} B")
        large = next((region for region in self.regions if region.size > self.capacity.value), None)
        if large is not None:
            raise ValueError(f"region {large.name} is larger than the capacity of {self.capacity.value} B")
        if self.regions and sum(region.size for region in self.regions) != self.capacity.value:
            raise ValueError(f"the regions do not add up to the capacity of {self.capacity.value} B")
        return self


class Flash(Record):
    """What is stored for good.

    Attributes:
        capacity: Bytes.
        code: Bytes of program and runtime in it.
        regions: The pieces that it is made of: the program lies in the first, constants in the first that holds them.
    """

    capacity: Sourced[Bytes]
    code: Sourced[Bytes]
    regions: tuple[Region, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.code.value > self.capacity.value:
            raise ValueError(f"the code of {self.code.value} B exceeds the capacity of {self.capacity.value} B")
        if self.regions and sum(region.size for region in self.regions) != self.capacity.value:
            raise ValueError(f"the regions do not add up to the capacity of {self.capacity.value} B")
        return self


class Power(Record):
    """Electrical power.

    Attributes:
        idle: When nothing runs.
        active: While a step runs, idle power included.
    """

    idle: Sourced[Watts]
    active: Sourced[Watts]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.active.value < self.idle.value:
            raise ValueError("the active power is below the idle power, which it includes")
        return self


class DeviceProfile(Record):
    """A device and the runtime that trains on it.

    Attributes:
        name: Identifier, as `--device` takes it.
        description: Device in words.
        runtime: Runtime in words; the same device with another runtime is another profile.
        clock: Of the processor that runs the step; needed where the latency states the clock that it holds at.
        fpu: Precision that a microcontroller's floating-point unit computes in, for whoever compiles for it.
        batch: Samples of a step unless the user says otherwise.
        optimizer: Optimizer of a step likewise.
        memory: The RAM.
        flash: What is stored.
        latency: How long a step takes.
        power: Electrical power.

    Example:
        >>> import tinysearch as ts
        >>> device = ts.load_device("cortex-m7")
        >>> device.memory.kind, device.memory.budget.value
        ('arena', 318464)
        >>> len(device.assumed) > 0
        True
    """

    FORMAT: ClassVar[Format] = Format("tinysearch.device", 1, "device profile")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: str
    runtime: str
    clock: Sourced[Hertz] | None = None
    fpu: Literal["single", "double"] = "single"
    batch: Annotated[int, Field(gt=0, le=65_536)]
    optimizer: OptimizerName
    memory: Memory
    flash: Flash
    latency: Latency
    power: Power

    @model_validator(mode="after")
    def _has_clock(self) -> Self:
        if self.latency.clock is not None and self.clock is None:
            raise ValueError('the latency holds at a clock, so the device needs a "clock" of its own')
        return self

    @property
    def slowdown(self) -> float:
        """Factor from the clock that the latency holds at to the device's own."""
        if self.latency.clock is None or self.clock is None:
            return 1.0
        return self.latency.clock.value / self.clock.value

    @cached_property
    def assumed(self) -> tuple[str, ...]:
        """Fields that no one has measured, as dotted names."""
        return tuple(_assumed(self))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a profile's file."""
        return profile_schema(cls, cls.FORMAT)


def _assumed(record: BaseModel, path: str = "") -> list[str]:
    names: list[str] = []
    for name in type(record).model_fields:
        value = getattr(record, name)
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for key, part in parts:
            where = f"{path}{name}{'.' if key else ''}{key}"
            if isinstance(part, Origin):
                names += [where] if part.assumed else []
            elif isinstance(part, BaseModel):
                names += _assumed(part, f"{where}.")
    return names
