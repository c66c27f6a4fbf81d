"""What training changes, part by part: its place in a program, its values as exported, and its name in a model."""

from collections.abc import Iterator
from dataclasses import dataclass

from ....devices.step.tensors import Kind
from .network import Floats, Network


@dataclass(frozen=True)
class Part:
    """One tensor that training changes.

    Attributes:
        kind: The program's tensor that it lies in.
        row: Row of the trace.
        name: Of the parameter in an applied model.
        values: What the program begins with, in the parameter's shape.
        first: Its first element in what trains of the row.
        constant: What the program's values are larger by than the parameter's; None where they are the same.
    """

    kind: Kind
    row: int
    name: str
    values: Floats
    first: int
    constant: Floats | None = None


def trained_parts(network: Network) -> Iterator[Part]:
    """All that trains, in the order of the program's rows; of each row first the weight or scale."""
    table = network.table
    for row in network.trace.order:
        if not network.present[row]:
            continue
        layer = network.layer(row)
        if table.statistics[0, row]:
            norm = network.norm(row)
            yield Part(Kind.STATISTICS, row, f"{layer.name}.running_mean", norm.mean, 0)
            yield Part(Kind.STATISTICS, row, f"{layer.name}.running_var", norm.variance, norm.mean.size)
        if not table.trains[0, row]:
            continue
        weights, shifts = int(table.trained_weights[0, row]), bool(table.bias[0, row])
        if layer.kind == "norm":
            norm = network.norm(row)
            if weights:
                yield Part(Kind.PARAMETERS, row, f"{layer.name}.weight", norm.scale, 0)
            if shifts and layer.op == "batch" and norm.affine:
                yield Part(Kind.PARAMETERS, row, f"{layer.name}.bias", norm.offset, 0, norm.offset - norm.shift)
            elif shifts:
                yield Part(Kind.PARAMETERS, row, f"{layer.name}.bias", norm.shift, weights)
            continue
        weight = network.weight(row)
        if weights:
            name = "weight_update" if weight.trains == "slice" else "weight"
            yield Part(Kind.PARAMETERS, row, f"{layer.name}.{name}", network.slice(row), 0)
        if shifts:
            assert weight.bias is not None
            yield Part(Kind.PARAMETERS, row, f"{layer.name}.bias", weight.bias, weights)
