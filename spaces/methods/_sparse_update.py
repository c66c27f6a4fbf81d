"""Sparse update (MCUNetV3, Lin et al., NeurIPS 2022, arXiv 2206.15472): last biases, and channels of some weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...core.errors import InputError
from ..policy import LayerUpdate, UpdatePolicy
from ..space import largest_channels
from ..trace import Trace
from ._common import make_policy, norm_updates


@dataclass(frozen=True, slots=True)
class Scheme:
    """A sparse-update scheme (MCUNetV3, Lin et al. 2022).

    Attributes:
        biases: The last so many convolutions update their biases.
        ratios: Share of input channels that update, by number of the convolution, counted from 0 in execution order.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> scheme = ts.methods.Scheme(biases=2, ratios={50: 0.5})
        >>> ts.methods.sparse_update(trace, scheme).describe()
        'sparse-update: trains the classifier, 1 sliced weight (in channels) and 2 norm shifts'
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


def sparse_update(trace: Trace, scheme: Scheme | int) -> UpdatePolicy:
    """Sparse update (MCUNetV3, Lin et al. 2022): the last biases, and some input channels of some weights.

    Channels are chosen by the L1 norm of their weights. A convolution without a bias updates the shift of the norm
    that follows it: the same function.

    Args:
        trace: The backbone.
        scheme: A scheme, or the number of one of the backbone's published ones in `SCHEMES`.

    Raises:
        InputError: There is no such scheme, or it names a convolution that the backbone has not.

    Example:
        >>> import tinysearch as ts
        >>> trace = ts.trace(ts.load_backbone("mcunet-5fps"), (3, 64, 64))
        >>> ts.methods.sparse_update(trace, 0).describe()
        'sparse-update-0: trains the classifier, 3 sliced weights (in channels) and 20 biases'
    """
    label = "sparse-update"
    if isinstance(scheme, int):
        published = SCHEMES.get(published_name(trace), ())
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
    return make_policy(trace, label, layers, norm_updates(following))


def published_name(trace: Trace) -> str:
    """The name that a backbone's schemes are published under."""
    return trace.name.removesuffix("-tf").removesuffix("-mcu")
