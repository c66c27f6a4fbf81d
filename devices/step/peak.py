"""Peak training memory and flash: what must fit, for N policies at once.

The peak is a maximum over the moments of one training step, not a sum of worst cases. A step runs the trace's rows
in data-flow order, computes the loss, runs the rows that a gradient reaches backwards, and updates. Each tensor lives
from the moment that makes it to the last that needs it:

- **Activations** are made by their row and freed after the last row that reads them, unless a row keeps them
  (`devices.saved`): then after the backward pass of the earliest row that keeps them. Masks, copies and statistics
  are made by a row's forward and freed after its backward pass. The logits stay for the whole step (eager), or until
  the loss has been computed (arena).
- **Gradients of activations** are made by the backward pass of the last row that reads the activation, and freed
  after the backward pass of the row that made it; a block's input thus has its gradient held while the branch beside
  the skip runs.
- **Gradients of weights**: eager, they stay until the update at the end of the step, and the gradients that several
  readers give to one tensor are added up beside a temporary of its size; arena, each layer's are applied at once, so
  that one layer's exist at a time, and gradients are added up in place. An arena computes a layer's weight gradient
  first, gives up what was kept for it, and then computes the gradient of its input with the weight not yet updated.
- **Weights**: eager, all parameters and running statistics lie in RAM, with a copy of the channels that train of a
  partly trained weight, and for the time of a pass a weight put together from both; arena, only what trains does,
  with the statistics that it updates, and what is frozen is read from flash.
- **Optimizer state** is as large as what trains, for Adam twice, for SGD with momentum once.
- **The batch of images** stays for the whole step (eager), or is an activation like others (arena).
- **In place, alignment and scratch** (arena): `devices.schedule`.

The framework's own baseline is no part of the peak. On an arena the peak is what no arrangement of the tensors can go
below; `devices.plan` arranges them, and says how much more that takes. `devices.program` lists the same step tensor by
tensor for one policy.
"""

import numpy as np
import numpy.typing as npt

from ...spaces.optimizers import OPTIMIZERS
from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from ..profile import DeviceProfile
from .columns import Amount, Columns, Ints, Mask, both, either, times, without
from .saved import Kept, find_kept
from .sizes import Schedule, present_sum, weighted_sum

Floats = npt.NDArray[np.float64]


def peak_bytes(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Ints:
    """Peak training memory, (N,), by the rules of this module.

    Args:
        table: N policies.
        profile: The device and runtime.
        batch: Samples of one step.
        optimizer: adam, sgd or sgd-momentum.

    Raises:
        InputError: The optimizer is unknown.
    """
    kept = find_kept(table, batch, profile.memory.dtypes.activation)
    return find_peak(table, kept, Schedule(table.trace, profile, batch), optimizer)


def find_peak(table: UpdateTable, kept: Kept, schedule: Schedule, optimizer: str) -> Ints:
    """As `peak_bytes`, from what is kept."""
    return _Step(table, kept, schedule, optimizer).peak()


class _Live:
    """A running sum of live bytes, and its maximum: what all policies share as a number, the rest as an array."""

    def __init__(self, start: Ints) -> None:
        self._each = start.copy()
        self._shared = 0
        self._most: int | None = None  # of the shared part since the array last changed
        self._peak = np.zeros_like(start)

    def add(self, amount: Amount) -> None:
        if isinstance(amount, int):
            self._shared += amount
        else:
            self._settle()
            self._each += amount

    def free(self, amount: Amount) -> None:
        if isinstance(amount, int):
            self._shared -= amount
        else:
            self._settle()
            self._each -= amount

    def moment(self, more: Amount = 0) -> None:
        """Note the present sum, and more that lives for this moment alone."""
        if isinstance(more, int):
            now = self._shared + more
            self._most = now if self._most is None else max(self._most, now)
        else:
            self.add(more)
            self.moment()
            self.free(more)

    def peak(self) -> Ints:
        self._settle()
        return self._peak

    def _settle(self) -> None:
        if self._most is not None:
            np.maximum(self._peak, self._each + self._most, out=self._peak)
            self._most = None


class _Step:
    """One training step of N policies."""

    def __init__(self, table: UpdateTable, kept: Kept, schedule: Schedule, optimizer: str) -> None:
        self.table, self.kept, self.schedule = table, kept, schedule
        self.trace, self.eager = table.trace, schedule.eager
        self.dtypes = schedule.profile.memory.dtypes
        self.present, self.live = Columns(table.present), Columns(table.live)
        self.live_inputs, self.trains = Columns(table.live_inputs), Columns(table.trains)
        self.trained = {row: self._trained(row) for row in self.trace.order if self.trains[row] is not False}
        self.weight_gradient = {
            row: schedule.aligned(count, self.dtypes.gradient) for row, count in self.trained.items()
        }
        self.extra = {row: schedule.aligned(amount) for row, amount in kept.extra.items()}
        self.composed = self._composed() if self.eager else {}
        self.sum = _Live(self._persistent(OPTIMIZERS.load(optimizer).state))

    def peak(self) -> Ints:
        self._forward()
        final = self.trace.order[-1]
        self.sum.add(self.schedule.gradient[final])
        self.sum.moment()
        if not self.eager:
            self.sum.free(times(without(True, self._kept(final)), self.schedule.activation[final]))
        self._backward()
        return self.sum.peak()

    def _trained(self, row: int) -> Ints:
        """Trained elements of a row, its bias included: as `UpdateTable.trained_params`, for few rows."""
        layer, weights = self.trace.rows[row], self.table.trained_weights[:, row]
        return weights + self.table.bias[:, row] * layer.biases if layer.bias else weights

    def _persistent(self, state: int) -> Ints:
        """Parameters, optimizer state and the batch of images: all there before the first row runs."""
        rows, table, dtypes = self.trace.rows, self.table, self.dtypes
        parameters = np.zeros(len(table), np.int64)
        for count in self.trained.values():
            parameters += self.schedule.aligned(count, dtypes.trained)
        if self.eager:
            stored = [(layer.params + layer.running_statistics) * dtypes.frozen for layer in rows]
            held = parameters * state + present_sum(table, stored)
            for row in self.composed:
                whole = self.trace.rows[row].weights
                held += times(table.trained_weights[:, row] < whole, table.trained_weights[:, row] * dtypes.trained)
        else:
            statistics = [int(self.schedule.aligned(layer.running_statistics, dtypes.trained)) for layer in rows]
            held = parameters * (1 + state) + weighted_sum(table.statistics, statistics)
        result: Ints = held + self.schedule.activation[INPUT]
        return result

    def _composed(self) -> dict[int, Amount]:
        """Per row of which a part trains in some policies, the bytes of the weight that is put together."""
        composed: dict[int, Amount] = {}
        for row in self.trained:
            whole, trained = self.trace.rows[row].weights, self.table.trained_weights[:, row]
            partial = (trained > 0) & (trained < whole)
            if partial.any():
                composed[row] = times(partial, whole * self.dtypes.frozen)
        return composed

    def _forward(self) -> None:
        schedule = self.schedule
        for row in self.trace.order:
            present = self.present[row]
            if present is False:
                continue
            dying = {source: self._dying(row, source) for source in schedule.sources[row]}
            overwritten: Mask = False
            for source in schedule.overwrites[row]:
                first = without(dying[source], overwritten)
                self.sum.free(times(first, schedule.activation[source]))
                dying[source] = without(dying[source], first)
                overwritten = either(overwritten, first)
            self.sum.add(times(present, schedule.activation[row]))
            self.sum.add(self.extra.get(row, 0))
            scratch = self._scratch(row, overwritten, self.dtypes.activation)
            self.sum.moment(scratch + times(present, schedule.scratch[row]) + self.composed.get(row, 0))
            for source, dies in dying.items():
                self.sum.free(times(dies, schedule.activation[source]))

    def _backward(self) -> None:
        """Every row that a gradient reaches, in reverse order."""
        releases = self._releases()
        for row in reversed(self.trace.order):
            runs = self.live[row]
            if runs is False:
                continue
            passes = {s: both(self.live[s], self.present[row]) for s in self.schedule.sources[row] if s != INPUT}
            new = {source: both(mask, self._last(row, source)) for source, mask in passes.items()}
            self.sum.add(self.weight_gradient.get(row, 0))
            if self.eager:
                # A gradient more than there is: it becomes the tensor's own or is added to it.
                temporary = sum((times(mask, self.schedule.gradient[s]) for s, mask in passes.items()), 0)
                self.sum.moment(temporary + times(self.live_inputs[row], self.composed.get(row, 0)))
                self._new_gradients(new)
                self.sum.free(times(runs, self.schedule.gradient[row]))
                self._release(row, releases)
            else:
                self._arena_row(row, runs, new, releases)

    def _arena_row(self, row: int, runs: Mask, new: dict[int, Mask], releases: "Releases") -> None:
        schedule, weighted = self.schedule, self.trace.rows[row].kind in ("conv", "linear")
        if weighted and row in self.weight_gradient:
            self.sum.moment()
            self._release(row, releases)
        overwritten: Mask = False
        for source in schedule.overwrites[row]:
            overwritten = either(overwritten, new.get(source, False))
        self.sum.free(times(overwritten, schedule.gradient[row]))
        self._new_gradients(new)
        self.sum.moment(self._scratch(row, overwritten, self.dtypes.gradient))
        self.sum.free(times(without(runs, overwritten), schedule.gradient[row]))
        self.sum.free(self.weight_gradient.get(row, 0))
        if not weighted:
            self._release(row, releases)

    def _new_gradients(self, new: dict[int, Mask]) -> None:
        for source, mask in new.items():
            self.sum.add(times(mask, self.schedule.gradient[source]))

    def _scratch(self, row: int, overwritten: Mask, element_bytes: int) -> Amount:
        return 0 if overwritten is False else times(overwritten, self.schedule.channel(row, element_bytes))

    def _kept(self, tensor: int) -> Mask:
        return self.kept.outputs.get(tensor, False)

    def _dying(self, row: int, source: int) -> Mask:
        """Where a tensor is read for the last time, and not kept."""
        return False if source == INPUT and self.eager else without(self._last(row, source), self._kept(source))

    def _last(self, row: int, source: int) -> Mask:
        """Where a row is the last to read a tensor."""
        last = both(self.present[row], source == INPUT or self.present[source])
        readers = self.schedule.readers[source]
        for other in readers[readers.index(row) + 1 :]:
            last = without(last, self.present[other])
        return last

    def _releases(self) -> "Releases":
        releases: Releases = {}
        for tensor, holders in self.kept.holders.items():
            earlier: Mask = False
            if tensor == INPUT and self.eager:
                continue
            for row, keeps in holders:
                releases.setdefault(row, []).append((tensor, without(keeps, earlier)))
                earlier = either(earlier, keeps)
        return releases

    def _release(self, row: int, releases: "Releases") -> None:
        self.sum.free(self.extra.get(row, 0))
        for tensor, mask in releases.get(row, ()):
            self.sum.free(times(mask, self.schedule.activation[tensor]))


#: Per row, the kept tensors that its backward pass is the last to need, and where.
Releases = dict[int, list[tuple[int, Mask]]]
