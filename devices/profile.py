"""Device profiles: one YAML file for one device and runtime, each number with its source or marked as assumed.

Format version 1; quantities are written with their units ("320 KiB", "216 MHz") and read strictly. Whatever is wrong
with a file is said in one line that names the file, the line and the field.
"""

from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ..spaces import units
from ..spaces.errors import InputError
from ..spaces.files import read_text

#: Largest profile, in characters; the bundled ones have a few thousand.
MAX_PROFILE = 256 * 1024

Value = TypeVar("Value")


def _read(parse: Any) -> BeforeValidator:
    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except InputError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(validate)


def _unit(known: Any) -> BeforeValidator:
    return _read(lambda value: units.parse_quantity(value, known))


Bytes = Annotated[int, _read(units.parse_bytes)]
Seconds = Annotated[float, _unit(units.SECONDS)]
Watts = Annotated[float, _unit(units.WATTS), Field(gt=0)]
MacRate = Annotated[float, _unit(units.MACS_PER_SECOND), Field(gt=0)]
ByteRate = Annotated[float, _unit(units.BYTES_PER_SECOND), Field(gt=0)]
Macs = Annotated[float, _unit(units.MACS), Field(gt=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sourced(_Record, Generic[Value]):
    """A number and where it comes from.

    Attributes:
        value: The number, in base units.
        source: Where it was read or how it was fitted.
        assumed: Whether no one has measured it; `source` then says what it is guessed from.
    """

    value: Value
    source: str | None = None
    assumed: bool = False

    @model_validator(mode="after")
    def _has_origin(self) -> Self:
        if not self.source and not self.assumed:
            raise ValueError('a number needs a "source", or "assumed: true"')
        return self


class Region(_Record):
    """A contiguous piece of RAM.

    Attributes:
        name: Such as SRAM1.
        size: Bytes.
    """

    name: str
    size: Bytes


class Dtypes(_Record):
    """Bytes of an element.

    Attributes:
        activation: Of activations, running and kept.
        frozen: Of weights that do not train.
        trained: Of weights that train and of their optimizer state.
        gradient: Of gradients.
    """

    activation: Literal[1, 2, 4]
    frozen: Literal[1, 2, 4]
    trained: Literal[2, 4]
    gradient: Literal[2, 4]


class Memory(_Record):
    """The RAM.

    Attributes:
        kind: eager: tensors come and go as in PyTorch, weights lie in RAM; arena: one static arena, frozen weights
            in flash, each update applied at once.
        capacity: Bytes of RAM.
        budget: Bytes that a training step may use unless the user says otherwise; of an arena its size.
        baseline: Bytes that runtime and program hold besides; never part of a peak.
        regions: The pieces that the RAM is made of; an arena lies in one of them or in neighbours.
        dtypes: Bytes of an element.
    """

    kind: Literal["eager", "arena"]
    capacity: Sourced[Bytes]
    budget: Sourced[Bytes]
    baseline: Sourced[Bytes]
    regions: tuple[Region, ...] = ()
    dtypes: Dtypes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.budget.value == 0:
            raise ValueError("a budget of 0 B holds no training step")
        if self.budget.value > self.capacity.value:
            raise ValueError(f"the budget of {self.budget.value} B exceeds the capacity of {self.capacity.value} B")
        if self.regions and sum(region.size for region in self.regions) != self.capacity.value:
            raise ValueError(f"the regions do not add up to the capacity of {self.capacity.value} B")
        return self


class Flash(_Record):
    """What is stored for good.

    Attributes:
        capacity: Bytes.
        code: Bytes of program and runtime in it.
    """

    capacity: Sourced[Bytes]
    code: Sourced[Bytes]


class Rates(_Record):
    """Speed of one phase, by class of operation.

    Attributes:
        dense: Convolutions with a kernel above 1 x 1.
        pointwise: Convolutions with a 1 x 1 kernel.
        depthwise: Depthwise convolutions.
        linear: Linear layers.
        elementwise: Norms, activations, additions, pools: bytes read and written.
        overhead: Time that each operation costs besides.
    """

    dense: Sourced[MacRate]
    pointwise: Sourced[MacRate]
    depthwise: Sourced[MacRate]
    linear: Sourced[MacRate]
    elementwise: Sourced[ByteRate]
    overhead: Sourced[Seconds]


class Validity(_Record):
    """What the latency model was fitted on; outside of it a prediction carries a warning.

    Attributes:
        batch: Smallest and largest batch.
        macs: Smallest and largest forward MACs of one sample.
    """

    batch: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    macs: tuple[Macs, Macs]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.batch[0] > self.batch[1] or self.macs[0] > self.macs[1]:
            raise ValueError("a range is written [smallest, largest]")
        return self


class Latency(_Record):
    """A training step's time: `a_f * forward + a_b * backward`, from rates per class.

    Attributes:
        forward: Rates of the forward pass.
        backward: Rates of the gradients of inputs and weights.
        forward_scale: a_f, the whole step's coefficient over the sum of its forward operations.
        backward_scale: a_b, likewise for the backward pass.
        fused: Whether norms and activations are part of the convolution before them in the forward pass.
        confidence: How far to trust a training step's time.
        error: Mean absolute percentage error of the fit, in percent, and on what.
        valid: What it was fitted on.
    """

    forward: Rates
    backward: Rates
    forward_scale: Sourced[Annotated[float, Field(gt=0)]]
    backward_scale: Sourced[Annotated[float, Field(gt=0)]]
    fused: bool
    confidence: Literal["low", "medium", "high"]
    error: Sourced[Annotated[float, Field(ge=0)]] | None = None
    valid: Validity


class Power(_Record):
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


class DeviceProfile(_Record):
    """A device and the runtime that trains on it.

    Attributes:
        name: Identifier, as `--device` takes it.
        description: Device in words.
        runtime: Runtime in words; the same device with another runtime is another profile.
        batch: Samples of a step unless the user says otherwise.
        optimizer: Optimizer of a step likewise.
        memory: The RAM.
        flash: What is stored.
        latency: How long a step takes.
        power: Electrical power.
    """

    FORMAT: ClassVar[str] = "tinysearch.device"
    VERSION: ClassVar[int] = 1

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: str
    runtime: str
    batch: Annotated[int, Field(gt=0, le=65_536)]
    optimizer: Literal["adam", "sgd", "sgd-momentum"]
    memory: Memory
    flash: Flash
    latency: Latency
    power: Power

    @cached_property
    def assumed(self) -> tuple[str, ...]:
        """Fields that no one has measured, as dotted names."""
        return tuple(_assumed(self))


def _assumed(record: BaseModel, path: str = "") -> list[str]:
    names: list[str] = []
    for name in type(record).model_fields:
        value = getattr(record, name)
        where = f"{path}{name}"
        if isinstance(value, Sourced):
            names += [where] if value.assumed else []
        elif isinstance(value, BaseModel):
            names += _assumed(value, f"{where}.")
    return names


def list_devices() -> tuple[str, ...]:
    """Identifiers of the bundled profiles."""
    files = (resources.files(__package__) / "profiles").iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def load_device(name_or_path: str | Path) -> DeviceProfile:
    """Read a profile.

    Args:
        name_or_path: Identifier of a bundled profile, or a YAML file of one's own.

    Raises:
        InputError: There is no such profile or file, or something in it is wrong: file, line and field are named.
    """
    if isinstance(name_or_path, str) and name_or_path in list_devices():
        bundled = resources.files(__package__) / "profiles" / f"{name_or_path}.yaml"
        return parse_profile(bundled.read_text(encoding="utf-8"), bundled.name)
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise InputError(
            f"no device {str(name_or_path)!r}: name one of {', '.join(list_devices())}, or a YAML file of your own"
        )
    return parse_profile(read_text(path), str(path))


def parse_profile(text: str, origin: str) -> DeviceProfile:
    """Read a profile from YAML text; `origin` names it in messages.

    Raises:
        InputError: Something in it is wrong: origin, line and field are named.
    """
    if len(text) > MAX_PROFILE:
        raise InputError(f"{origin}: {len(text)} characters are more than the {MAX_PROFILE} that a profile may have")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{origin}: YAML aliases (*name) are not allowed in a profile")
        tree = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{origin}, line {line}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{origin}: no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or content.pop("format", None) != DeviceProfile.FORMAT:
        raise InputError(f'{origin}: no device profile: "format" must be "{DeviceProfile.FORMAT}"')
    _refuse_duplicates(tree, origin)
    version = content.pop("version", None)
    if version != DeviceProfile.VERSION or isinstance(version, bool):
        line = _line(tree, ("version",))
        raise InputError(f'{origin}, line {line}: "version" must be {DeviceProfile.VERSION}, not {version!r}')
    try:
        return DeviceProfile.model_validate(content)
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(str(part) for part in detail["loc"]) or "profile"
        message = detail["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{origin}, line {_line(tree, detail['loc'])}: {field}: {message}{more}") from error


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int:
    """Line of a field, or of the nearest that there is on the way to it."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _refuse_duplicates(node: yaml.Node | None, origin: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{origin}, line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(str(key.value))
            _refuse_duplicates(value, origin)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, origin)
