"""What the calls of a program name besides tensors: weights, biases, shapes and other constants."""

from collections.abc import Mapping

import numpy as np

from ....devices.step.tensors import Kind
from .arena import Arena
from .constants import Constants
from .folding import folded_weight
from .network import Network

#: The C names of axes, by the policy's.
AXES = {"out": "TS_OUT", "in": "TS_IN"}


class Symbols:
    """Names of constants, which are defined when they are first asked for.

    Args:
        network: The network.
        arena: Where tensors lie.
        constants: The program's arrays.
        names: Identifiers of layers, by their names.
        folded: By the row of a convolution, that of the norm that is part of it.
    """

    def __init__(
        self,
        network: Network,
        arena: Arena,
        constants: Constants,
        names: Mapping[str, str],
        folded: Mapping[int, int],
    ) -> None:
        self.network, self.arena, self.constants, self.folded = network, arena, constants, folded
        self._names = names
        self._weights: dict[int, str] = {}
        self._shapes: dict[int, str] = {}

    def name(self, row: int) -> str:
        """A row's identifier."""
        return self._names[self.network.layer(row).name]

    def weight(self, row: int) -> str:
        """The address of a row's `ts_weight`."""
        if row not in self._weights:
            weight, name, layer = self.network.weight(row), self.name(row), self._title(row)
            frozen = self.frozen(row)
            trained, index, count = "NULL", "NULL", 0
            if weight.trains != "none":
                trained = self.arena.at(Kind.PARAMETERS, row)
            if weight.trains == "slice":
                what = f"{layer}: the {weight.axis}put channels that train"
                index, count = self.constants.indices(f"i_{name}", np.array(weight.index), what), len(weight.index)
            fields = f"{frozen}, {trained}, {index}, {count}, {AXES[weight.axis]}"
            self._weights[row] = f"static const ts_weight w_{name} = {{{fields}}};"
        return f"&w_{self.name(row)}"

    def frozen(self, row: int) -> str:
        """A row's weight as exported."""
        values = folded_weight(self.network, row, self.folded.get(row)).values
        return self.constants.floats(f"w_{self.name(row)}", values, f"{self._title(row)}: weight{self._folding(row)}")

    def index(self, row: int) -> tuple[str, int]:
        """The channels of a weight that train, and how many."""
        self.weight(row)
        index = self.network.weight(row).index
        return f"{self.constants.prefix}_i_{self.name(row)}", len(index)

    def bias(self, row: int) -> str:
        """A convolution's or linear layer's bias; what trains of it lies behind the weight, or is a norm's shift."""
        norm = self.folded.get(row)
        weight = folded_weight(self.network, row, norm)
        if norm is not None and self.network.norm(norm).shift_trains:
            return self.arena.at(Kind.PARAMETERS, norm)
        if weight.bias_trains:
            return self.arena.at(Kind.PARAMETERS, row, self.trained_weights(row))
        if weight.bias is None:
            return "NULL"
        return self.constants.floats(
            f"b_{self.name(row)}", weight.bias, f"{self._title(row)}: bias{self._folding(row)}"
        )

    def shape(self, row: int) -> str:
        """The address of a row's `ts_conv_shape`."""
        if row not in self._shapes:
            fields = ", ".join(map(str, self.network.geometry(row)))
            self._shapes[row] = f"static const ts_conv_shape s_{self.name(row)} = {{{fields}}};"
        return f"&s_{self.name(row)}"

    def scale(self, row: int) -> str:
        """A norm's scale."""
        norm = self.network.norm(row)
        if norm.scale_trains:
            return self.arena.at(Kind.PARAMETERS, row)
        return self.constants.floats(f"scale_{self.name(row)}", norm.scale, f"{self._title(row)}: scale")

    def shift(self, row: int) -> str:
        """A norm's shift."""
        norm = self.network.norm(row)
        if norm.shift_trains:
            return self.arena.at(Kind.PARAMETERS, row, self.trained_weights(row))
        return self.constants.floats(f"shift_{self.name(row)}", norm.shift, f"{self._title(row)}: shift")

    def slope(self, row: int) -> str:
        """Of a norm on running statistics with a frozen scale: what it multiplies by."""
        what = f"{self._title(row)}: scale over running deviation"
        return self.constants.floats(f"slope_{self.name(row)}", self.network.norm(row).slope, what)

    def offset(self, row: int) -> str:
        """Likewise: what it adds; where the shift trains, in the shift's place."""
        norm = self.network.norm(row)
        if norm.shift_trains:
            return self.arena.at(Kind.PARAMETERS, row)
        what = f"{self._title(row)}: shift less mean times slope"
        return self.constants.floats(f"offset_{self.name(row)}", norm.offset, what)

    def statistics(self, row: int) -> tuple[str, str]:
        """A batch norm's running means, and one over its running deviations."""
        norm, name, title = self.network.norm(row), self.name(row), self._title(row)
        return (
            self.constants.floats(f"mean_{name}", norm.mean, f"{title}: running means"),
            self.constants.floats(f"inverse_{name}", norm.inverse, f"{title}: 1 / running deviations"),
        )

    def running(self, row: int, first: int = 0) -> str:
        """Running statistics that train: means, then variances."""
        return self.arena.at(Kind.STATISTICS, row, first)

    def trained_weights(self, row: int) -> int:
        """Elements of a row's weight or scale that train; what trains of a bias or shift lies behind them."""
        return int(self.network.table.trained_weights[0, row])

    def definitions(self) -> str:
        """The weights and shapes that were asked for."""
        return "\n".join([*self._weights.values(), "", *self._shapes.values()]).strip()

    def _title(self, row: int) -> str:
        return self.network.layer(row).name

    def _folding(self, row: int) -> str:
        norm = self.folded.get(row)
        return "" if norm is None else f", with {self._title(norm)} in it"
