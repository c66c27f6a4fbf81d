"""The published methods as points of the space: functions that return update policies.

Each seeds every search and is what a front is judged against. Citations are in README.md; the rules were read in the
papers and, where a paper is silent, in its authors' public code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import InputError
from .policy import LayerUpdate, NormUpdate, UpdatePolicy
from .space import largest_channels, lite_update
from .tinytrain import tinytrain
from .trace import Layer, Trace

__all__ = [
    "SCHEMES",
    "Scheme",
    "bias",
    "full",
    "last",
    "last_conv",
    "mobiletl",
    "named",
    "norm_last",
    "sparse_update",
    "tinytl",
    "tinytrain",
]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A sparse-update scheme (MCUNetV3, Lin et al. 2022).

    Attributes:
        biases: The last so many convolutions update their biases.
        ratios: Share of input channels that update, by number of the convolution, counted from 0 in execution order.
    """

    biases: int
    ratios: Mapping[int, float]


def _scheme(biases: int, convs: str, ratios: str) -> Scheme:
    numbers = [int(number) for number in convs.split(",")]
    return Scheme(biases, dict(zip(numbers, (float(ratio) for ratio in ratios.split(",")), strict=True)))


_MBV2 = "27,30,33,36,39,42,45,48"
_PROXYLESS = "36,39,42,45,48,51,54,57"
#: The published schemes, by backbone, from the smallest memory to the largest.
SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "mcunet-5fps": (
        _scheme(20, "23,24,27,30,33,39", "0,.25,.5,.5,0,0"),
        _scheme(21, "21,23,24,26,27,30", "1,0,1,0,.5,1"),
        _scheme(22, "21,24,27,30,36,39", "1,1,1,1,.125,.25"),
        _scheme(24, "21,24,27,30,33,39", ".25,1,1,1,.5,.5"),
        _scheme(23, "21,24,27,30,36,39", "1,1,1,1,1,.5"),
    ),
    "mobilenetv2-w0.35": (
        _scheme(16, "36,39,40,41,42,45,48,49", "1,1,0,.25,.125,.125,.125,.125"),
        _scheme(20, "32,33,36,39,41,42,45,48", ".125,.5,.5,1,.25,.125,.125,1"),
        _scheme(25, _MBV2, "1,1,1,1,1,.125,.5,1"),
        _scheme(31, _MBV2, "1,1,1,1,1,.5,1,1"),
        _scheme(34, _MBV2, "1,1,1,1,1,1,1,1"),
    ),
    "proxylessnas-w0.3": (
        _scheme(21, "39,42,44,45,50,51,54,57", ".25,1,0,1,0,.125,.25,.25"),
        _scheme(28, "33,36,39,42,45,51,54,57", ".5,.25,1,1,1,.5,.25,.5"),
        _scheme(25, _PROXYLESS, "1,.5,1,1,.25,.5,1,1"),
        _scheme(32, _PROXYLESS, "1,1,1,1,.5,1,1,1"),
        _scheme(45, _PROXYLESS, "1,1,1,1,1,1,1,1"),
    ),
}


def last(trace: Trace) -> UpdatePolicy:
    """The classifier alone."""
    return _policy(trace, "last")


def last_conv(trace: Trace) -> UpdatePolicy:
    """The last convolution's weight, and the classifier: TinyTrain's baseline LastLayer.

    Raises:
        InputError: The backbone has no convolution.
    """
    convs = [layer for layer in trace.layers if layer.kind == "conv"]
    if not convs:
        raise InputError(f"{trace.name} has no convolution")
    return _policy(trace, "last-conv", [LayerUpdate(name=convs[-1].name, weight="all")])


def bias(trace: Trace) -> UpdatePolicy:
    """Every bias and norm shift, and the classifier: TinyTL-B."""
    return _policy(trace, "bias", _biases(trace.layers), _norms(trace.layers))


def norm_last(trace: Trace) -> UpdatePolicy:
    """Scale and shift of every norm, and the classifier: TinyTL's Norm+Last."""
    return _policy(trace, "norm+last", (), _norms(trace.layers, scale=True))


def full(trace: Trace) -> UpdatePolicy:
    """Everything, with the norms' statistics: full fine-tuning."""
    layers = (LayerUpdate(name=layer.name, weight="all", bias=layer.bias) for layer in _weighted(trace))
    return _policy(trace, "full", layers, _norms(trace.layers, scale=True, statistics=True))


def tinytl(trace: Trace, variant: Literal["B", "L", "L+B"] = "L+B") -> UpdatePolicy:
    """TinyTL (Cai et al. 2020): biases (B), lite residual modules (L), or both, and the classifier.

    Modules stand beside every block but the first, as in the authors' code. In L+B the shift of a module's last norm is
    frozen where the block's own last shift or bias trains.

    Raises:
        InputError: The variant is none of the three, or L is asked for of a backbone without blocks.
    """
    if variant not in ("B", "L", "L+B"):
        raise InputError(f"TinyTL's variants are B, L and L+B, not {variant!r}")
    if variant == "B":
        return bias(trace).model_copy(update={"method": "tinytl-B"})
    both = variant == "L+B"
    shifted = range(len(trace)) if both else ()
    lite = [lite_update(trace, block, shifted) for block in trace.blocks[1:] if block.lite]
    if not lite:
        raise InputError(f"{trace.name} has no blocks that a lite residual module could stand beside")
    layers, norms = (_biases(trace.layers), _norms(trace.layers)) if both else ((), ())
    policy = _policy(trace, f"tinytl-{variant}", layers, norms)
    return policy.model_copy(update={"lite_residuals": tuple(lite)})


def mobiletl(trace: Trace, blocks: int = 3) -> UpdatePolicy:
    """MobileTL (Chiang et al. 2023): the top blocks and the classifier.

    In a trained block all weights train, the norms train their shift alone except the last, which trains all and its
    statistics, and activations keep a sign mask.

    Args:
        trace: The backbone.
        blocks: How many of the top blocks train; 1 to 5 in the paper.

    Raises:
        InputError: The backbone has not that many blocks.
    """
    if not 1 <= blocks <= len(trace.blocks):
        raise InputError(f"{trace.name} has {len(trace.blocks)} blocks: mobiletl can train 1 to {len(trace.blocks)}")
    first = len(trace.blocks) - blocks
    inside = [layer for layer in trace.layers if layer.block >= first]
    layers = [
        LayerUpdate(name=layer.name, weight="all", bias=layer.bias)
        for layer in inside
        if layer.kind in ("conv", "linear")
    ]
    norms = []
    for index in range(first, len(trace.blocks)):
        found = [layer for layer in inside if layer.block == index and layer.kind == "norm"]
        norms += [NormUpdate(name=layer.name, shift=True) for layer in found[:-1]]
        norms += [NormUpdate(name=x.name, shift=True, scale=True, statistics=x.op == "batch") for x in found[-1:]]
    masks = [layer.name for layer in inside if layer.kind == "act" and layer.op in ("relu6", "hardswish", "silu")]
    policy = _policy(trace, f"mobiletl-{blocks}", layers, norms)
    return policy.model_copy(update={"sign_masks": tuple(masks)})


def sparse_update(trace: Trace, scheme: Scheme | int) -> UpdatePolicy:
    """Sparse update (MCUNetV3, Lin et al. 2022): the last biases, and some input channels of some weights.

    Channels are chosen by the L1 norm of their weights. A convolution without a bias updates the shift of the norm
    that follows it: the same function.

    Args:
        trace: The backbone.
        scheme: A scheme, or the number of one of the backbone's published ones in `SCHEMES`.

    Raises:
        InputError: There is no such scheme, or it names a convolution that the backbone has not.
    """
    label = "sparse-update"
    if isinstance(scheme, int):
        published = SCHEMES.get(_published_name(trace), ())
        if not 0 <= scheme < len(published):
            raise InputError(
                f"{trace.name} has {len(published)} published sparse-update schemes, no number {scheme}: "
                f"there are some for {', '.join(SCHEMES)}"
            )
        label, scheme = f"sparse-update-{scheme}", published[scheme]
    convs = [layer for layer in trace.layers if layer.kind == "conv"]
    if scheme.biases > len(convs) or max(scheme.ratios, default=0) >= len(convs):
        raise InputError(f"{trace.name} has {len(convs)} convolutions: fewer than the scheme names")
    biased = {layer.name for layer in convs[len(convs) - scheme.biases :]}
    layers = []
    for number, layer in enumerate(convs):
        ratio = scheme.ratios.get(number, 0.0)
        update = LayerUpdate(name=layer.name, bias=layer.bias and layer.name in biased)
        if ratio and (ratio == 1 or layer.sliceable):
            count = max(1, int(layer.in_channels * ratio))
            weight = "all" if ratio == 1 else largest_channels(trace, layer, "in", count)
            update = update.model_copy(update={"weight": weight})
        layers.append(update)
    following = [n for n in trace.layers if n.kind == "norm" and trace.layers[n.inputs[0]].name in biased]
    return _policy(trace, label, layers, _norms(following))


def named(trace: Trace) -> dict[str, UpdatePolicy]:
    """Every published method that this backbone can take, by name; TinyTrain, which needs data, is `tinytrain`."""
    policies = [last(trace), bias(trace), norm_last(trace), full(trace)]
    if any(block.lite for block in trace.blocks[1:]):
        policies += [tinytl(trace, "L"), tinytl(trace, "L+B")]
    policies += [mobiletl(trace, k) for k in (1, 2, 3, 5) if k <= len(trace.blocks)]
    policies += [sparse_update(trace, n) for n in range(len(SCHEMES.get(_published_name(trace), ())))]
    return {policy.method or policy.hash: policy for policy in policies}


def _published_name(trace: Trace) -> str:
    return trace.name.removesuffix("-tf").removesuffix("-mcu")


def _weighted(trace: Trace) -> Iterable[Layer]:
    return (
        layer for number, layer in enumerate(trace.layers) if layer.kind in ("conv", "linear") and number != trace.head
    )


def _biases(layers: Iterable[Layer]) -> tuple[LayerUpdate, ...]:
    return tuple(LayerUpdate(name=x.name, bias=True) for x in layers if x.kind in ("conv", "linear") and x.bias)


def _norms(layers: Iterable[Layer], *, scale: bool = False, statistics: bool = False) -> tuple[NormUpdate, ...]:
    return tuple(
        NormUpdate(name=x.name, shift=True, scale=scale, statistics=statistics and x.op == "batch")
        for x in layers
        if x.kind == "norm"
    )


def _policy(
    trace: Trace, method: str, layers: Iterable[LayerUpdate] = (), norms: Iterable[NormUpdate] = ()
) -> UpdatePolicy:
    head = trace.layers[trace.head].name
    return UpdatePolicy(
        backbone=trace.name,
        input_shape=trace.input_shape,
        head=head,
        layers=tuple(x for x in layers if x.name != head and (x.bias or x.weight != "none")),
        norms=tuple(norms),
        method=method,
    )
