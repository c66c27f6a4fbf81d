"""What the methods share: the entries of kinds of layers, and a policy with a method's name."""

from collections.abc import Iterable

from ..policy import LayerUpdate, NormUpdate, UpdatePolicy
from ..trace import Layer, Trace


def weighted(trace: Trace) -> Iterable[Layer]:
    """The convs and linears of a trace, its head left out."""
    return (
        layer for number, layer in enumerate(trace.layers) if layer.kind in ("conv", "linear") and number != trace.head
    )


def bias_updates(layers: Iterable[Layer]) -> tuple[LayerUpdate, ...]:
    """Entries that train every bias of these layers."""
    return tuple(LayerUpdate(name=x.name, bias=True) for x in layers if x.kind in ("conv", "linear") and x.bias)


def norm_updates(layers: Iterable[Layer], *, scale: bool = False, statistics: bool = False) -> tuple[NormUpdate, ...]:
    """Entries that train the shift of every norm among these layers, and what else is asked for."""
    return tuple(
        NormUpdate(name=x.name, shift=x.bias, scale=scale, statistics=statistics and x.op == "batch")
        for x in layers
        if x.kind == "norm" and (x.bias or scale)
    )


def parameter_updates(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The names of all parameters by themselves among these layers."""
    return tuple(x.name for x in layers if x.kind == "parameter")


def make_policy(
    trace: Trace,
    method: str,
    layers: Iterable[LayerUpdate] = (),
    norms: Iterable[NormUpdate] = (),
    parameters: Iterable[str] = (),
) -> UpdatePolicy:
    """A policy with a method's name; entries that train nothing are left out."""
    head = trace.layers[trace.head].name
    return UpdatePolicy(
        backbone=trace.name,
        input_shape=trace.input_shape,
        head=head,
        layers=tuple(x for x in layers if x.name != head and (x.bias or x.weight != "none")),
        norms=tuple(norms),
        parameters=tuple(parameters),
        method=method,
    )
