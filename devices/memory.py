"""Peak training memory and flash: what must fit, for N policies at once.

The peak is a maximum over the moments of one training step, not a sum of worst cases. A step runs the trace's rows
in data-flow order, computes the loss, runs the rows that a gradient reaches backwards, and updates. Each tensor lives
from the moment that makes it to the last that needs it:

- **Activations** are made by their row and freed after the last row that reads them, unless a row keeps them
  (`devices.saved`): then after the backward pass of the earliest row that keeps them. Masks, copies and statistics
  are made by a row's forward and freed after its backward pass. The logits stay for the whole step.
- **Gradients of activations** are made by the backward pass of the last row that reads the activation, and freed
  after the backward pass of the row that made it; a block's input thus has its gradient held while the branch beside
  the skip runs.
- **Gradients of weights**: eager, they stay until the update at the end of the step, and the gradients that several
  readers give to one tensor are added up beside a temporary of its size; arena, each layer's are applied at once, so
  that one layer's exist at a time, and gradients are added up in place.
- **Weights**: eager, all parameters and running statistics lie in RAM, with a copy of the channels that train of a
  partly trained weight, and for the time of a pass a weight put together from both; arena, only what trains does,
  with the statistics that it updates, and what is frozen is read from flash.
- **Optimizer state** is as large as what trains, for Adam twice, for SGD with momentum once.
- **The batch of images** stays for the whole step (eager), or is an activation like others (arena).
- **In place** (arena): a norm, activation or addition overwrites an input that dies with it and has its size, and in
  the backward pass the gradient of its output becomes that of its input.

The framework's own baseline is no part of the peak. Alignment, fragmentation and kernels' scratch are not counted.
"""

from dataclasses import dataclass

import numpy as np

from ..spaces.errors import InputError
from ..spaces.table import UpdateTable
from ..spaces.trace import INPUT, Layer, Trace
from .records import DeviceProfile
from .saved import Bools, Ints, Kept, columns, find_kept

#: Values of optimizer state per trained value.
OPTIMIZER_STATE = {"sgd": 0, "sgd-momentum": 1, "adam": 2}
#: Operations that an arena runs in place.
IN_PLACE = ("norm", "act")


@dataclass(frozen=True)
class Peak:
    """The largest moment of a training step.

    Attributes:
        bytes: Size, (N,).
        row: Row of the trace that runs then, (N,).
        backward: Whether it runs its backward pass, (N,).
    """

    bytes: Ints
    row: Ints
    backward: Bools


def peak_bytes(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Ints:
    """Peak training memory, (N,), by the rules of this module.

    Args:
        table: N policies.
        profile: The device and runtime.
        batch: Samples of one step.
        optimizer: adam, sgd or sgd-momentum.
    """
    kept = find_kept(table, batch, profile.memory.dtypes.activation)
    return find_peak(table, kept, profile, batch, optimizer).bytes


def flash_bytes(table: UpdateTable, profile: DeviceProfile) -> Ints:
    """Bytes stored, (N,): every parameter once, trained ones by their first values, and the program.

    On an arena device weights are stored in the frozen type and biases in 4 bytes, the running statistics folded
    into scale and shift. On an eager one parameters and running statistics are a file in 4 bytes each.
    """
    rows = table.trace.rows
    weight = profile.memory.dtypes.frozen
    if profile.memory.kind == "eager":
        stored = [weight * (layer.params + _running_statistics(layer)) for layer in rows]
    else:
        stored = [
            4 * layer.params if layer.kind == "norm" else weight * layer.weights + 4 * layer.biases for layer in rows
        ]
    result: Ints = table.present @ np.array(stored, np.int64) + profile.flash.code.value
    return result


def find_peak(table: UpdateTable, kept: Kept, profile: DeviceProfile, batch: int, optimizer: str) -> Peak:
    """The largest moment, and which row runs then.

    Raises:
        InputError: The optimizer is unknown.
    """
    if optimizer not in OPTIMIZER_STATE:
        raise InputError(f"{optimizer!r} is no optimizer: use {', '.join(OPTIMIZER_STATE)}")
    schedule = _Schedule(table, kept, profile, batch, optimizer)
    schedule.forward()
    schedule.backward()
    return Peak(schedule.peak, schedule.peak_row, schedule.peak_backward)


def partial_weights(table: UpdateTable) -> Bools:
    """Which weights train in part, (N, R)."""
    whole = np.array([layer.weights for layer in table.trace.rows])
    result: Bools = (table.outputs > 0) & (table.trained_weights < whole)
    return result


def _running_statistics(layer: Layer) -> int:
    return 2 * layer.weights if layer.op == "batch" else 0


class _Schedule:
    """One training step of N policies: a running sum of live bytes, and its maximum."""

    def __init__(self, table: UpdateTable, kept: Kept, profile: DeviceProfile, batch: int, optimizer: str) -> None:
        dtypes = profile.memory.dtypes
        self.table, self.kept, self.trace = table, kept, table.trace
        self.eager = profile.memory.kind == "eager"
        self.present, self.live = columns(table.present), columns(table.live)
        self.live_inputs = columns(table.live_inputs)
        rows = self.trace.rows
        elements = [*(layer.out_elements for layer in rows), int(np.prod(self.trace.input_shape))]
        self.activation = [batch * dtypes.activation * count for count in elements]
        self.gradient = [batch * dtypes.gradient * count for count in elements]
        self.weight_gradient = columns(table.trained_params * dtypes.gradient)
        partial = partial_weights(table)
        weights = np.array([layer.weights for layer in rows])
        self.composed = columns(partial * (weights * dtypes.frozen)) if self.eager else None
        self.readers = _Readers(self.trace)
        self.in_place = [not self.eager and (row.kind in IN_PLACE or row.op == "add") for row in rows]
        trained = table.trained_params.sum(1)
        self.held = trained * (OPTIMIZER_STATE[optimizer] * dtypes.trained)
        if self.eager:
            storage = np.array([layer.params + _running_statistics(layer) for layer in rows])
            self.held += table.present @ (storage * dtypes.frozen)
            self.held += (table.trained_weights * partial).sum(1) * dtypes.trained
        else:
            statistics = np.array([_running_statistics(layer) for layer in rows])
            self.held += (trained + table.statistics @ statistics) * dtypes.trained
        self.held += self.activation[INPUT]
        self.peak = np.zeros(len(table), np.int64)
        self.peak_row = np.zeros(len(table), np.int64)
        self.peak_backward = np.zeros(len(table), np.bool_)

    def forward(self) -> None:
        """Every row that is present, in data-flow order."""
        for row in self.trace.order:
            present, size = self.present[row], self.activation[row]
            made = present * size + self.kept.extra[row]
            now = self.held + made
            freed: Ints | int = 0
            reused: Bools | None = None
            for source in self.readers.sources[row]:
                last = self._last_reader(row, source)
                if last is None or (source == INPUT and self.eager):
                    continue
                last &= ~self.kept.outputs[source]
                freed = freed + last * self.activation[source]
                if self.in_place[row] and self.activation[source] == size:
                    reused = last if reused is None else reused | last
            if reused is not None:
                now -= reused * size
            if self.composed is not None:
                now += self.composed[row] * present
            self._moment(now, row, backward=False)
            self.held += made - freed

    def backward(self) -> None:
        """The loss, then every row that a gradient reaches, in reverse order."""
        releases = self._releases()
        final = self.trace.order[-1]
        self.held += self.gradient[final]
        self._moment(self.held, final, backward=True)
        for row in reversed(self.trace.order):
            runs, size = self.live[row], self.gradient[row]
            if not runs.any():
                continue
            weights = runs * self.weight_gradient[row]
            now = self.held + weights
            change = -(runs * (size + self.kept.extra[row]))
            reused: Bools | None = None
            for source in self.readers.sources[row]:
                if source == INPUT:
                    continue
                passes = self.live[source] & self.present[row]
                last = self._last_reader(row, source)
                if self.eager:  # one gradient more, that becomes the tensor's or is added to it
                    now += passes * self.gradient[source]
                if last is None:
                    continue
                new = passes & last
                change += new * self.gradient[source]
                if not self.eager:
                    now += new * self.gradient[source]
                if self.in_place[row] and self.gradient[source] == size:
                    reused = new if reused is None else reused | new
            if reused is not None:
                now -= reused * size
            if self.composed is not None:
                now += self.composed[row] * self.live_inputs[row]
            self._moment(now, row, backward=True)
            self.held += change
            if self.eager:
                self.held += weights
            for tensor, mask in releases.get(row, ()):
                if tensor != INPUT or not self.eager:
                    self.held -= mask * self.activation[tensor]

    def _moment(self, now: Ints, row: int, *, backward: bool) -> None:
        larger = now > self.peak
        np.copyto(self.peak, now, where=larger)
        self.peak_row[larger] = row
        self.peak_backward[larger] = backward

    def _last_reader(self, row: int, source: int) -> Bools | None:
        """Which policies read a tensor in this row for the last time; None where none does."""
        later = self.readers.later(row, source)
        if any(other < len(self.trace) for other in later):
            return None
        last: Bools = self.present[row].copy() if source == INPUT else self.present[row] & self.present[source]
        for other in later:
            last &= ~self.present[other]
        return last

    def _releases(self) -> dict[int, list[tuple[int, Bools]]]:
        """Per row, the kept tensors that its backward pass is the last to need."""
        releases: dict[int, list[tuple[int, Bools]]] = {}
        count = len(self.trace.rows)
        for index, holders in enumerate(self.kept.holders):
            earlier = np.zeros(len(self.table), np.bool_)
            for row, keeps in holders:
                releases.setdefault(row, []).append((INPUT if index == count else index, keeps & ~earlier))
                earlier |= keeps
        return releases


class _Readers:
    """Who reads each row's output, a block's last row the lite residual module's too."""

    def __init__(self, trace: Trace) -> None:
        lite = {block.output: block.lite[-1] for block in trace.blocks if block.lite}
        self.sources = {row: (*trace.rows[row].inputs, *([lite[row]] if row in lite else [])) for row in trace.order}
        self._readers: dict[int, list[int]] = {}
        for row in trace.order:
            for source in self.sources[row]:
                self._readers.setdefault(source, []).append(row)

    def later(self, row: int, source: int) -> list[int]:
        """Who reads a tensor after this row does."""
        readers = self._readers[source]
        return readers[readers.index(row) + 1 :]
