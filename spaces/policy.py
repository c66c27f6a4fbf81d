"""An update policy: what trains. Immutable, compared and hashed by content, stored as JSON.

Format version 1 is described in docs/policy-format.md; the JSON Schema is `UpdatePolicy.json_schema()`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from ..core.errors import InputError
from ..core.files import read_text, write_atomically
from ..core.formats import Format
from .lite_shape import LiteShape
from .optimizers import ADAM, OPTIMIZERS, Optimizer, OptimizerName

if TYPE_CHECKING:
    from torch import fx, nn

Name = Annotated[str, Field(min_length=1, max_length=200)]
#: Most layers, norms, blocks or names that a policy lists.
MAX_ENTRIES = 10_000
#: Largest side of an input, and other lengths of it.
MAX_LENGTH = 10_000


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Channels(_Record):
    """A set of channels of a weight.

    Attributes:
        axis: `in`: only these channels of the input are kept; `out`: only these rows of the gradient are computed.
        index: Channel numbers, ascending.
    """

    axis: Literal["in", "out"]
    index: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, max_length=100_000)

    @field_validator("index")
    @classmethod
    def _ascending(cls, index: tuple[int, ...]) -> tuple[int, ...]:
        if list(index) != sorted(set(index)):
            raise ValueError("channel numbers must ascend and not repeat")
        return index


class LayerUpdate(_Record):
    """What trains of a conv or linear layer.

    Attributes:
        name: Qualified module name.
        weight: Nothing, all of it, or a set of channels.
        bias: Whether the bias trains.
    """

    name: Name
    weight: Literal["none", "all"] | Channels = "none"
    bias: bool = False


class NormUpdate(_Record):
    """What trains of a norm.

    Attributes:
        name: Qualified module name.
        scale: Whether gamma trains.
        shift: Whether beta trains.
        statistics: Whether batch statistics are used and the running ones updated.
    """

    name: Name
    scale: bool = False
    shift: bool = False
    statistics: bool = False


class LiteUpdate(_Record):
    """A lite residual module beside a block; all of it trains, but for its last norm's shift if that is told apart.

    Attributes:
        block: Qualified name of the block.
        in_channels: Channels that enter the block.
        out_channels: Channels that leave it.
        stride: Stride of the block.
        kernel: Kernel of the module's group convolution.
        pool: Whether the module halves its input first.
        shift: Whether the shift of the module's last norm trains.
    """

    block: Name
    in_channels: int = Field(gt=0, le=65_536)
    out_channels: int = Field(gt=0, le=65_536)
    stride: int = Field(gt=0, le=64)
    kernel: int = Field(ge=1, le=5)
    pool: bool = True
    shift: bool = True

    @property
    def shape(self) -> LiteShape:
        """The module's structure."""
        return LiteShape(self.in_channels, self.out_channels, self.stride, self.kernel, self.pool)

    @model_serializer(mode="wrap")
    def _without_default_shift(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A shift that trains is left out, so that policies from before this field keep their hash.
        return {key: value for key, value in handler(self).items() if key != "shift" or not value}


class Training(_Record):
    """How a policy is trained. Not part of a policy's hash.

    Attributes:
        optimizer: The optimizer, which decides how much state each trained value carries; None leaves it to the device.
        learning_rate: Its rate; None until a proxy or the user has tuned it.
        batch: Samples of one step; None leaves it to the device.
        steps: Steps of one fine-tuning; None where it is left to the caller.
    """

    optimizer: OptimizerName | None = None
    learning_rate: float | None = Field(default=None, gt=0, le=1e6)
    batch: int | None = Field(default=None, gt=0, le=1_000_000)
    steps: int | None = Field(default=None, gt=0, le=1_000_000_000)

    @property
    def stepper(self) -> Optimizer:
        """What trains the policy where no device decides: the optimizer that is stated, or else Adam."""
        return OPTIMIZERS.load(self.optimizer) if self.optimizer else ADAM

    @model_serializer(mode="wrap")
    def _without_what_is_left_open(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Left out, so that programs from before these could be left open read the file.
        left = [key for key in ("optimizer", "batch") if getattr(self, key) is None]
        return {key: value for key, value in handler(self).items() if key not in left}


class UpdatePolicy(_Record):
    """What trains of a backbone; whatever is not named is frozen.

    Attributes:
        backbone: Name of the backbone.
        input_shape: Shape of its input, (C, H, W).
        head: Qualified name of the classifier, which always trains.
        layers: Convs and linears of which something trains, in execution order, the head left out.
        norms: Norms of which something trains.
        lite_residuals: Lite residual modules, by block.
        sign_masks: Activations whose derivative is approximated by the sign of their input.
        parameters: Qualified names of the parameters that train by themselves: those that a network uses as they stand,
            such as layer scales and position embeddings, and those of layers that a policy knows no better.
        training: How it is trained.
        method: The published method that this policy is, if it is one. Not part of the hash.

    Example:
        >>> import tinysearch as ts
        >>> policy = ts.UpdatePolicy(backbone="net", input_shape=(3, 32, 32), head="fc", sign_masks=("act",))
        >>> policy.describe()
        'trains the classifier; sign masks on 1 activation'
        >>> ts.UpdatePolicy.from_json(policy.to_json()) == policy
        True
    """

    FORMAT: ClassVar[Format] = Format("tinysearch.policy", 1, "policy")

    backbone: Name
    input_shape: tuple[Annotated[int, Field(ge=1, le=MAX_LENGTH)], ...] = Field(max_length=4)
    head: Name
    layers: tuple[LayerUpdate, ...] = Field(default=(), max_length=MAX_ENTRIES)
    norms: tuple[NormUpdate, ...] = Field(default=(), max_length=MAX_ENTRIES)
    lite_residuals: tuple[LiteUpdate, ...] = Field(default=(), max_length=MAX_ENTRIES)
    sign_masks: tuple[Name, ...] = Field(default=(), max_length=MAX_ENTRIES)
    parameters: tuple[Name, ...] = Field(default=(), max_length=MAX_ENTRIES)
    training: Training = Training()
    method: Name | None = None

    @field_validator("layers", "norms", "lite_residuals", "sign_masks", "parameters")
    @classmethod
    def _named_once(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [entry if isinstance(entry, str) else getattr(entry, "name", None) or entry.block for entry in entries]
        if again := next((name for name, count in Counter(names).items() if count > 1), None):
            raise ValueError(f"{again} is named twice")
        return entries

    @model_validator(mode="after")
    def _head_apart(self) -> Self:
        if any(entry.name == self.head for entry in self.layers):
            raise ValueError(f"layers: the head, {self.head}, always trains: leave it out")
        return self

    @model_serializer(mode="wrap")
    def _without_no_parameters(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Left out, so that policies from before this field keep their hash, and older programs read the file.
        return {key: value for key, value in handler(self).items() if key != "parameters" or value}

    @property
    def side(self) -> int:
        """Side of its images in pixels.

        Raises:
            InputError: It is for other inputs than square RGB images, which is what data sets give.
        """
        if len(self.input_shape) != 3 or self.input_shape[0] != 3 or self.input_shape[1] != self.input_shape[2]:
            raise InputError(
                f"policy {self.hash}: input_shape: must be 3 channels of square images, not {self.input_shape}"
            )
        return self.input_shape[1]

    @property
    def hash(self) -> str:
        """16 hex digits that identify what trains: equal for equal policies, whoever proposed them."""
        content = self.model_dump(mode="json", exclude={"training", "method"})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return int(self.hash, 16)

    def with_training(self, **changes: Any) -> Self:
        """The same policy with other training settings, such as a tuned `learning_rate`."""
        return self.model_copy(update={"training": Training(**(self.training.model_dump() | changes))})

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON values, with its format, version and hash."""
        return self.FORMAT.values({"hash": self.hash, **self.model_dump(mode="json")})

    def to_json(self) -> str:
        """The policy as JSON text, with its format, version and hash."""
        return self.FORMAT.text({"hash": self.hash, **self.model_dump(mode="json")})

    @classmethod
    def from_json(cls, text: str, origin: str = "policy") -> Self:
        """Read a policy back.

        Args:
            text: What `to_json` gave, or an edited form of it.
            origin: Where the text comes from, for messages.

        Raises:
            InputError: It is no policy, or one of its fields is wrong; the field is named.
        """
        return cls._of(*cls.FORMAT.parse(text, origin), origin)

    @classmethod
    def from_dict(cls, values: Any, origin: str = "policy") -> Self:
        """As `from_json`, of values that have been read already, such as the policy within a delta."""
        return cls._of(*cls.FORMAT.open(values, origin), origin)

    @classmethod
    def _of(cls, content: dict[str, Any], version: int, origin: str) -> Self:
        stated = content.pop("hash", None)
        policy = cls.FORMAT.validate(cls, content, version, origin)
        if stated is not None and stated != policy.hash and version <= cls.FORMAT.version:
            raise InputError(
                f"{origin}: the content hashes to {policy.hash}, not to the stated {stated!r:.60}: it was edited; "
                'delete its "hash" line to accept that'
            )
        return policy

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file.

        Raises:
            InputError: The file is missing, too large, or no policy.
        """
        return cls.from_json(read_text(Path(path)), str(path))

    def save(self, path: str | Path) -> Path:
        """Write a policy file and return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_atomically(path, self.to_json())

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema (2020-12) of a policy file."""
        schema = cls.model_json_schema()
        schema["description"] = schema["description"].partition("\n\nExample:")[0]  # which is one for Python
        schema["properties"] = {
            "format": {"const": cls.FORMAT.name},
            "version": {"const": cls.FORMAT.version},
            "hash": {"type": "string"},
        } | schema["properties"]
        schema["required"] = ["format", "version", *schema["required"]]
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def apply(self, backbone: "nn.Module", *, seed: int = 0) -> "fx.GraphModule":
        """A copy of the backbone that trains exactly this; see `tinysearch.spaces.apply.apply`."""
        from .engine.apply import apply

        return apply(backbone, self, seed=seed)

    def delta(self, model: "nn.Module") -> bytes:
        """What training changed: a safetensors file that `merge` puts back into the same backbone.

        Args:
            model: What `apply` of this policy returned, trained since; or a copy of it.

        Returns:
            The file's bytes: the tensors that train (of a partly trained weight its trained channels), the
            statistics that follow their batches, the head and lite residual modules whole, and nothing else.

        Raises:
            InputError: The model is no applied policy or another's, or holds NaN or infinity.
        """
        from .delta import delta

        return delta(model, self)

    def describe(self) -> str:
        """What trains, in words."""
        parts = ["the classifier"]
        if self.lite_residuals:
            modules = _count(len(self.lite_residuals), "lite residual module")
            frozen = sum(not lite.shift for lite in self.lite_residuals)
            parts.append(f"{modules} ({_count(frozen, 'last shift')} frozen)" if frozen else modules)
        whole = sum(entry.weight == "all" for entry in self.layers)
        sliced = [entry for entry in self.layers if isinstance(entry.weight, Channels)]
        if whole:
            parts.append(_count(whole, "whole weight"))
        if sliced:
            axes = sorted({entry.weight.axis for entry in sliced if isinstance(entry.weight, Channels)})
            parts.append(f"{_count(len(sliced), 'sliced weight')} ({' and '.join(axes)} channels)")
        if biases := sum(entry.bias for entry in self.layers):
            parts.append(_count(biases, "bias", "biases"))
        if shifts := sum(norm.shift for norm in self.norms):
            parts.append(_count(shifts, "norm shift"))
        if scales := sum(norm.scale for norm in self.norms):
            parts.append(_count(scales, "norm scale"))
        if statistics := sum(norm.statistics for norm in self.norms):
            parts.append(f"the statistics of {_count(statistics, 'norm')}")
        if self.parameters:
            parts.append(_count(len(self.parameters), "parameter by itself", "parameters by themselves"))
        text = "trains " + _join(parts)
        if self.sign_masks:
            text += f"; sign masks on {_count(len(self.sign_masks), 'activation')}"
        return f"{self.method}: {text}" if self.method else text


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _join(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
