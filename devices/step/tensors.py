"""The tensors of a training step: what there can be, and how large each is, for N policies at once."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cache

from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from .columns import Amount, Mask, masks, times
from .saved import Kept
from .setting import StepSetting
from .ways import Ways


class Kind(StrEnum):
    """What a tensor is.

    Of a row of the trace: parameters: those that train (eager: all), first of the weight, then of the bias, and after
    them the running statistics where all are in RAM; statistics: running means, then variances, that the step updates;
    state: of the optimizer, as large as what trains for each value that it keeps; activation: the row's output (of
    `INPUT` the images); kept: what its forward keeps besides outputs: packed masks, chosen input channels, means and
    inverse deviations; gradient: of the row's output; weight_gradient: of what trains, laid out as the parameters are;
    scratch: for one operation alone.
    """

    PARAMETERS = "parameters"
    STATISTICS = "statistics"
    STATE = "state"
    ACTIVATION = "activation"
    KEPT = "kept"
    GRADIENT = "gradient"
    WEIGHT_GRADIENT = "weight_gradient"
    SCRATCH = "scratch"


#: What a tensor is named by: what it is, and the row of the trace that it belongs to.
Key = tuple[Kind, int]
#: Tensors, and in which policies something holds of each.
Touches = dict[Key, Mask]


@cache
def key_of(kind: Kind, row: int) -> Key:
    """The name of a tensor, the same object each time: a walk names thousands."""
    return kind, row


#: Kinds that are there before a step and after it.
PERSISTENT = frozenset((Kind.PARAMETERS, Kind.STATISTICS, Kind.STATE))


class StepTensors:
    """The tensors of the steps of N policies.

    Args:
        table: N policies.
        kept: What they keep for the backward pass.
        setting: What the step is run with.

    Attributes:
        present, trains, scale, statistics: The columns of the table of those names.
        ways: How they run what lies below all that trains.
    """

    def __init__(self, table: UpdateTable, kept: Kept, setting: StepSetting) -> None:
        self.table, self.kept, self.setting = table, kept, setting
        self.present, self.trains = masks(table.present), masks(table.trains)
        self.scale, self.statistics = masks(table.scale), masks(table.statistics)
        self.ways = Ways(setting.frozen, table, images=setting.images_held)
        self._dtypes = setting.profile.memory.dtypes
        self._alike: dict[Key, int] = {}
        self._partly: dict[int, Mask] = {}
        # Of a row, and bytes of an element: whoever asks soon asks again.
        self._latest: tuple[int, int, Amount] = (INPUT, 0, 0)

    def size(self, key: Key) -> Amount:
        """Bytes of a tensor, rounded up to the alignment.

        A number is the size in every policy that has the tensor. Where the size depends on the policy it is an array,
        which is 0 where a policy does not have the tensor.
        """
        size = self._alike.get(key)
        if size is not None:
            return size
        found = self._measure(*key)
        if isinstance(found, int):  # to hold on to the arrays costs more than to make them anew
            self._alike[key] = found
        return found

    def persistent(self) -> Iterator[tuple[Key, Mask]]:
        """The tensors that are there before a step and after it, and in which policies."""
        for row in self.setting.trace.order:
            trains = self.trains[row]
            yield key_of(Kind.PARAMETERS, row), self.present[row] if self.setting.eager else trains
            if self.statistics[row] is not False:
                yield key_of(Kind.STATISTICS, row), self.statistics[row]
            if trains is not False and self.setting.state:
                yield key_of(Kind.STATE, row), trains
            if trains is not False and self.setting.accumulates:
                yield key_of(Kind.WEIGHT_GRADIENT, row), trains

    def composed(self, row: int) -> Amount:
        """Bytes of a partly trained weight that an eager runtime puts together of its trained and its frozen part."""
        if not self.setting.eager or self.trains[row] is False:
            return 0
        whole = self.setting.trace.rows[row].weights
        if row not in self._partly:
            trained = self.table.trained_weights[:, row]
            partly = (trained > 0) & (trained < whole)
            self._partly[row] = partly if partly.any() else False
        return times(self._partly[row], whole * self._dtypes.frozen)

    def _measure(self, kind: Kind, row: int) -> Amount:
        setting, dtypes = self.setting, self._dtypes
        if kind == Kind.ACTIVATION:
            return setting.activation[row]
        if kind == Kind.GRADIENT:
            return setting.gradient[row]
        if kind == Kind.KEPT:
            return setting.aligned(self.kept.extra.get(row, 0))
        if kind == Kind.WEIGHT_GRADIENT:
            return self._trained_bytes(row, dtypes.gradient)
        if kind == Kind.STATE:
            return setting.state * self._trained_bytes(row, dtypes.trained) if setting.state else 0
        if kind == Kind.PARAMETERS:
            return self._stored_bytes(row) if setting.eager else self._trained_bytes(row, dtypes.trained)
        if kind == Kind.STATISTICS and not setting.eager:
            return setting.aligned(setting.trace.rows[row].running_statistics, dtypes.trained)
        return 0

    def _stored_bytes(self, row: int) -> Amount:
        """All parameters and running statistics, and a copy of the channels that train of a partly trained weight."""
        layer, weights = self.setting.trace.rows[row], self.table.trained_weights[:, row]
        stored = (layer.params + layer.running_statistics) * self._dtypes.frozen
        if isinstance(self.composed(row), int):
            return stored
        return times(self.present[row], stored) + times(weights < layer.weights, weights * self._dtypes.trained)

    def _trained_bytes(self, row: int, element_bytes: int) -> Amount:
        """As many elements as train in a row, its bias included."""
        if self.trains[row] is False:
            return 0
        if self._latest[:2] != (row, element_bytes):
            layer, count = self.setting.trace.rows[row], self.table.trained_weights[:, row]
            count = count + times(self.table.bias[:, row], layer.biases) if layer.bias else count
            self._latest = row, element_bytes, self.setting.aligned(count, element_bytes)
        return self._latest[2]
