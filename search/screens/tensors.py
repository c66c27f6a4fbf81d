"""The tensors of a network by the rows of its trace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from ...spaces.trace import Trace

#: What a row may hold, as `AdditiveScore` calls it.
Part = Literal["weight", "bias", "scale"]
#: Tensors by row and part.
Tensors = Mapping[tuple[int, Part], Tensor]


def tensors_by_row(network: nn.Module, trace: Trace) -> Tensors:
    """Every parameter that a row of the trace tells of."""
    parameters = dict(network.named_parameters())
    found: dict[tuple[int, Part], Tensor] = {}
    for row, layer in enumerate(trace.rows):
        if layer.kind == "parameter":
            found[row, "scale"] = parameters[layer.name]
        elif layer.weights:
            found[row, "scale" if layer.kind == "norm" else "weight"] = parameters[f"{layer.name}.weight"]
            if layer.bias:
                found[row, "bias"] = parameters[f"{layer.name}.bias"]
    return found


@contextmanager
def training(tensors: Tensors) -> Iterator[None]:
    """Let some tensors, none of which needs a gradient, need one meanwhile."""
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for tensor in tensors.values():
            tensor.requires_grad_(False)
