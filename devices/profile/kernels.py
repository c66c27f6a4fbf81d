"""The part of a profile that says how long the operations of a training step take.

A step is a sum of kernels: each operation's forward pass, the gradient of its input (dx) and that of its weight (dw).
Each kernel belongs to a class, whose key may be coarse (`depthwise`) or fine (`depthwise-k5-s2`): a profile fitted to
published measurements has coarse ones, a calibrated one what it measured, and both are read by the same code.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .quantities import ByteRate, ElementRate, Hertz, MacRate, Macs, Origin, Record, Seconds, Sourced

if TYPE_CHECKING:  # that module loads torch, which listing profiles must not wait for
    from ...spaces.trace import Layer

#: What every phase has: whatever no finer class names runs at one of these.
COARSE = ("dense", "pointwise", "depthwise", "linear", "elementwise")

#: Most input channels of a stem: colours, which fill few lanes of a vector unit.
STEM_CHANNELS = 4

#: Ratio of the sides of maps that share a class.
MAP_RATIO = 4

#: Operations that take the time of going over their elements, which is what `elementwise` and the like are fitted to.
ELEMENT_BY_ELEMENT = frozenset(
    {
        *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "batch", "group", "add", "mul", "cat", "pad"),
        *("mean", "avgpool2d", "maxpool2d", "adaptiveavgpool2d", "adaptive_avg_pool2d", "max_pool2d", "flatten"),
        *("dropout", "parameter", "reshape", "contiguous"),
    }
)

_CONV = r"(stem|dense|pointwise|depthwise|grouped)(-k[1-9]\d*(-s[1-9]\d*(-m[1-9]\d*)?)?)?"
_OTHER = r"linear|product|elementwise|mask|bias|input|(norm|act|other)(-[a-z][a-z0-9_]*(-m[1-9]\d*)?)?"
CLASS_KEY = rf"({_CONV}|{_OTHER})"


def class_keys(layer: "Layer") -> tuple[str, ...]:
    """The keys that a row's kernels may be listed under, finest first; the last one is in `COARSE`.

    A convolution is dense, pointwise (1 x 1), depthwise or grouped, and a dense one of an image's few channels a stem.
    Its kernel size and stride may follow: `depthwise-k5-s2`, then `depthwise-k5`, then `depthwise`. A stem or grouped
    convolution that nothing is known of is a dense one. Norms, activations and others go by their operation,
    `act-relu6`, then by their kind, `act`, and at last are `elementwise`. What multiplies activations, as attention
    does, is a `product` by its operation, and by default as fast as a linear layer.
    """
    if layer.kind == "linear":
        return ("linear",)
    if layer.kind != "conv":
        name = f"{layer.kind}-{layer.op}"
        if layer.products:
            return (f"{name}{map_size(layer)}", name, "product", "linear")
        return (f"{name}{map_size(layer)}", name, layer.kind, "elementwise")
    size, stride = max(layer.kernel), max(layer.stride)
    ends = (f"-k{size}-s{stride}{map_size(layer)}", f"-k{size}-s{stride}")
    kinds = [conv_kind(layer)]
    if kinds == ["dense"] and layer.in_channels <= STEM_CHANNELS:
        kinds.insert(0, "stem")
    if kinds[-1] == "grouped":
        kinds.append("dense")
    return tuple(f"{kind}{end}" for kind in kinds for end in (*ends, f"-k{size}", ""))


def map_size(layer: "Layer") -> str:
    """Suffix of a class of maps: the largest power of `MAP_RATIO` that is no more than the output's shorter side."""
    side = min(layer.out_shape[-2:])
    size = 1
    while size * MAP_RATIO <= side:
        size *= MAP_RATIO
    return f"-m{size}" if len(layer.out_shape) == 3 else ""


def conv_kind(layer: "Layer") -> str:
    """dense, pointwise, depthwise or grouped."""
    if layer.depthwise:
        return "depthwise"
    if layer.groups > 1:
        return "grouped"
    return "pointwise" if layer.kernel == (1, 1) else "dense"


class Kernel(Origin):
    """Time of one call: `overhead + MACs / macs + elements written / outputs + bytes moved / bytes`.

    What is not stated takes no time.

    Attributes:
        overhead: Seconds a call.
        macs: Multiply-accumulates a second.
        outputs: Elements of the result a second: what each costs whatever it is the sum of, such as requantisation.
        bytes: Bytes a second, read and written.
    """

    overhead: Seconds | None = None
    macs: MacRate | None = None
    outputs: ElementRate | None = None
    bytes: ByteRate | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.overhead is None and self.macs is None and self.outputs is None and self.bytes is None:
            raise ValueError("a kernel needs at least one of overhead, macs, outputs and bytes")
        return self

    @property
    def per_call(self) -> float:
        """Seconds of a call that does nothing."""
        return self.overhead or 0.0

    @property
    def per_mac(self) -> float:
        """Seconds of a multiply-accumulate."""
        return 1 / self.macs if self.macs else 0.0

    @property
    def per_output(self) -> float:
        """Seconds of an element of the result."""
        return 1 / self.outputs if self.outputs else 0.0

    @property
    def per_byte(self) -> float:
        """Seconds of a byte."""
        return 1 / self.bytes if self.bytes else 0.0


def _known_class(key: str) -> str:
    if not re.fullmatch(CLASS_KEY, key):
        raise ValueError(
            f"{key!r} is no class of kernels: use {', '.join(COARSE)}, or a finer one such as depthwise-k5-s2, "
            "act-relu6, stem, mask, bias or input"
        )
    return key


def _complete(phase: dict[str, Kernel]) -> dict[str, Kernel]:
    missing = [key for key in COARSE if key not in phase]
    if missing:
        raise ValueError(f"a phase needs all of {', '.join(COARSE)}: {', '.join(missing)} missing")
    return phase


PassKernels = Annotated[dict[Annotated[str, AfterValidator(_known_class)], Kernel], AfterValidator(_complete)]


def find_kernel(phase: Mapping[str, Kernel], keys: tuple[str, ...]) -> Kernel:
    """The kernel of the first key that a phase has."""
    return next(phase[key] for key in keys if key in phase)


def is_assumed(phase: Mapping[str, Kernel], layer: "Layer") -> bool:
    """Whether the time of a row is assumed: by the kernel's own account, or as it was fitted to other operations."""
    keys = class_keys(layer)
    key = next(key for key in keys if key in phase)
    stands_in = layer.kind not in ("conv", "linear") and layer.op not in ELEMENT_BY_ELEMENT and key in COARSE
    return phase[key].assumed or stands_in


class FitError(Origin):
    """How far predictions of whole steps were from measurements that were held out of the fit.

    The terms are those of nn-Meter (Zhang et al., MobiSys 2021) and LitePred; all in percent but tau and points.

    Attributes:
        of: What the points are, and how they were held out.
        mape: Mean absolute percentage error.
        within_10: Share of points within 10 %.
        within_20: Share of points within 20 %.
        tau: Kendall's rank correlation.
        bias: Median of (predicted - measured) / measured.
        repeatability: Of the measurement itself: what a second one differs by.
        points: Number of points held out.
    """

    of: str
    mape: Annotated[float, Field(ge=0)]
    within_10: Annotated[float, Field(ge=0, le=100)] | None = None
    within_20: Annotated[float, Field(ge=0, le=100)] | None = None
    tau: Annotated[float, Field(ge=-1, le=1)] | None = None
    bias: float | None = None
    repeatability: Annotated[float, Field(ge=0)] | None = None
    points: Annotated[int, Field(gt=0)] | None = None


class Validity(Record):
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


Factor = Annotated[float, Field(gt=0)]


class Latency(Record):
    """A training step's time: `constant + a_f * forward + a_b * (dx + dw) + update`.

    Attributes:
        clock: At which all of these times hold, where a device's own clock scales them.
        forward: Kernels of the forward pass, by class.
        dx: Of the gradient of the input.
        dw: Of the gradient of the weight.
        update: The optimizer's pass over one trained tensor.
        forward_scale: a_f, the whole step's coefficient over the sum of its forward kernels.
        backward_scale: a_b, likewise for the backward pass.
        constant: Seconds of a step besides.
        fused: Whether norms and activations are part of the convolution before them in the forward pass.
        transferred: Where all of this comes from if it was measured on another device, and how far that holds.
        confidence: How far to trust a training step's time.
        error: Of the fit.
        valid: What it was fitted on.
    """

    clock: Sourced[Hertz] | None = None
    forward: PassKernels
    dx: PassKernels
    dw: PassKernels
    update: Kernel
    forward_scale: Sourced[Factor]
    backward_scale: Sourced[Factor]
    constant: Sourced[Seconds]
    fused: bool
    transferred: str | None = None
    confidence: Literal["low", "medium", "high"]
    error: FitError | None = None
    valid: Validity

    @model_validator(mode="after")
    def _classes_have_an_effect(self) -> Self:
        for name, idle in (("forward", ("bias",)), ("dx", ("bias", "input")), ("dw", ("mask", "input"))):
            for key in set(idle) & set(getattr(self, name)):
                raise ValueError(f"{name} has no kernels of class {key}")
        return self
