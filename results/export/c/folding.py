"""Which frozen norms become part of the convolution in front of them, and the convolutions with them in.

A norm on its running statistics is y = slope x + offset. Where its scale is frozen, and so is the weight in front of
it, the slope goes into the weight and the offset becomes the bias. A shift that trains is then a bias that trains: its
gradient is the same, and only its value differs, by a constant (`offset` = shift - mean slope), which is what the
program holds in its place.
"""

from dataclasses import replace

import numpy as np

from ....devices.step.program import Program
from ....devices.step.tensors import Kind
from .network import Network, Weight


def find_folded(network: Network, program: Program) -> dict[int, int]:
    """By the row of a convolution, the row of the norm that becomes part of it."""
    buffers = {(tensor.kind, tensor.row): tensor.buffer for tensor in program.tensors}
    found = {}
    for row in network.trace.order:
        layer = network.layer(row)
        if not network.present[row] or layer.kind != "norm" or layer.op != "batch" or not network.norm(row).affine:
            continue
        (source,) = layer.inputs
        if source < 0 or network.layer(source).kind != "conv" or not network.weight(source).frozen:
            continue
        if network.norm(row).shift_trains and network.weight(source).bias is not None:
            continue  # the constant would be another one than that of a norm by itself
        # What lies between two whole maps, where layers run by lines or by channels, is no tensor at all.
        places = {buffers.get((Kind.ACTIVATION, each)) for each in (source, row)} - {None}
        if len(places) <= 1 and network.readers(source) == [row]:
            found[source] = row
    return found


def folded_weight(network: Network, row: int, norm: int | None) -> Weight:
    """The weight of a row with a norm in it, and a bias that has the norm's offset."""
    weight = network.weight(row)
    if norm is None:
        return weight
    affine = network.norm(norm)
    slope = affine.slope.astype(np.float64)
    values = weight.values.astype(np.float64) * slope[:, None, None, None]
    offset = affine.offset.astype(np.float64)
    bias = offset if weight.bias is None else offset + weight.bias * slope
    return replace(weight, values=values.astype(np.float32), bias=bias.astype(np.float32))
