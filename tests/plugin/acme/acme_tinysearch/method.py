"""A method: the weights of the last one or two convolutions."""

from collections.abc import Iterator

from tinysearch.spaces.methods import Method
from tinysearch.spaces.policy import LayerUpdate, UpdatePolicy
from tinysearch.spaces.trace import Trace


def _policies(trace: Trace) -> Iterator[UpdatePolicy]:
    convs = [layer for layer in trace.layers if layer.kind == "conv"]
    for count in (1, 2):
        if count <= len(convs):
            yield UpdatePolicy(
                backbone=trace.name,
                input_shape=trace.input_shape,
                head=trace.layers[trace.head].name,
                layers=tuple(LayerUpdate(name=layer.name, weight="all") for layer in convs[-count:]),
                method=f"acme-top-{count}",
            )


TOP = Method("acme-top", "The last convolutions of acme", _policies)
