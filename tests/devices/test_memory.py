"""Peak memory against a slow simulation of one policy with explicit tensors, and what must always hold of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.devices.memory import find_peak, flash_bytes, peak_bytes
from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.saved import find_kept, saved_bytes
from tinysearch.spaces.apply import apply
from tinysearch.spaces.errors import InputError
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import INPUT, Trace

STATE = {"sgd": 0, "sgd-momentum": 1, "adam": 2}


@dataclass
class Tensor:
    size: int
    made: int
    needed: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        return max(self.needed | {self.made})

    def alive(self, step: int) -> bool:
        return self.made <= step <= self.last


def simulate(found: Trace, model, policy: UpdatePolicy, profile: DeviceProfile, batch: int, optimizer: str) -> int:
    """The peak of one policy: lists every tensor with its lifetime, then adds up each step's."""
    table = UpdateTable.of(found, [policy])
    eager = profile.memory.kind == "eager"
    act, grad = profile.memory.dtypes.activation, profile.memory.dtypes.gradient
    rows = [row for row in found.order if table.present[0, row]]
    lite = {b.output: b.lite[-1] for b in found.blocks if b.lite and table.present[0, b.lite[0]]}
    sources = {r: [*found.rows[r].inputs, *([lite[r]] if r in lite else [])] for r in rows}
    ahead = {row: step for step, row in enumerate(rows)}
    loss = len(rows)
    back = {row: loss + 1 + n for n, row in enumerate(r for r in reversed(rows) if table.live[0, r])}
    end = max([loss, *back.values()])
    kept = find_kept(table, batch, act)

    def elements(row: int) -> int:
        return int(np.prod(found.input_shape)) if row == INPUT else found.rows[row].out_elements

    values = {row: Tensor(batch * act * elements(row), ahead.get(row, 0)) for row in [INPUT, *rows]}
    grads: dict[int, Tensor] = {}
    others: list[Tensor] = []
    passing: dict[int, int] = {}  # bytes that only exist during a step
    for row in rows:
        for source in sources[row]:
            values[source].needed.add(ahead[row])
        if kept.extra[row, 0]:
            others.append(Tensor(int(kept.extra[row, 0]), ahead[row], {back[row]}))
    for tensor, holders in enumerate(kept.holders):
        for row, keeps in holders:
            if keeps[0]:
                values[INPUT if tensor == len(found.rows) else tensor].needed.add(back[row])
    values[rows[-1]].needed.add(end)
    if eager:
        values[INPUT].needed.add(end)
    grads[rows[-1]] = Tensor(batch * grad * elements(rows[-1]), loss, {back[rows[-1]]})
    for row, step in back.items():
        for source in sources[row]:
            if source == INPUT or not table.live[0, source]:
                continue
            if source not in grads:
                grads[source] = Tensor(batch * grad * elements(source), step, {back[source]})
            elif eager:
                passing[step] = passing.get(step, 0) + grads[source].size
        size = int(table.trained_params[0, row]) * grad
        others.append(Tensor(size, step, {end} if eager else {step}))

    parameters = dict(model.named_parameters())
    if eager:
        for row in rows:
            name = f"{found.rows[row].name}.weight"
            if f"{name}_update" in parameters:
                for step in [ahead[row], *([back[row]] if table.live_inputs[0, row] else [])]:
                    passing[step] = passing.get(step, 0) + parameters[name].numel() * 4
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    persistent = trained * STATE[optimizer] * 4
    if eager:
        persistent += sum(p.numel() for p in parameters.values()) * 4
        persistent += sum(b.numel() for n, b in model.named_buffers() if "running" in n) * 4
    else:
        updated = [m for m in model.modules() if getattr(m, "train_statistics", False)]
        persistent += (trained + sum(2 * m.num_features for m in updated)) * 4

    def in_place(row: int, made: list[Tensor], dying: list[Tensor]) -> int:
        layer = found.rows[row]
        if eager or not (layer.kind in ("norm", "act") or layer.op == "add"):
            return 0
        return max((m.size for m in made for d in dying if m.size == d.size), default=0)

    everything = [*values.values(), *grads.values(), *others]
    sums = []
    for step in range(end + 1):
        total = persistent + passing.get(step, 0) + sum(t.size for t in everything if t.alive(step))
        if step < loss:
            dying = [values[s] for s in sources[rows[step]] if values[s].last == step]
            total -= in_place(rows[step], [values[rows[step]]], dying)
        elif step > loss:
            row = next(r for r, s in back.items() if s == step)
            made = [grads[s] for s in sources[row] if s in grads and grads[s].made == step]
            total -= in_place(row, made, [grads[row]])
        sums.append(total)
    return max(sums)


def _cases() -> Iterator[tuple[str, str, int, str]]:
    for network in ("mobilenet", "small_net"):
        yield network, "rpi4", 3, "adam"
        yield network, "cortex-m7", 1, "sgd-momentum"


@pytest.mark.parametrize(("network", "device", "batch", "optimizer"), list(_cases()))
def test_equals_the_simulation(request, random_policy, network, device, batch, optimizer):
    model = request.getfixturevalue(network)
    found = request.getfixturevalue("mobilenet_trace" if network == "mobilenet" else "small_trace")
    profile = load_device(device)
    for seed in range(12 if network == "mobilenet" else 30):
        policy = random_policy(found, seed)
        expected = simulate(found, apply(model, policy), policy, profile, batch, optimizer)
        table = UpdateTable.of(found, [policy])
        assert peak_bytes(table, profile, batch, optimizer)[0] == expected, seed


def _more(table: UpdateTable, row: int) -> UpdateTable:
    """The same policies with one more row trained whole."""
    more = table[np.arange(len(table))]
    more.train_whole(row)
    return more


@pytest.fixture(scope="module")
def drawn(mobilenet_trace, random_policy) -> UpdateTable:
    return UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(24)])


@settings(max_examples=30, deadline=None)
@given(data=st.data(), device=st.sampled_from(["rpi4", "cortex-m7"]), optimizer=st.sampled_from(sorted(STATE)))
def test_training_more_never_needs_less(mobilenet_trace, drawn, data, device, optimizer):
    profile = load_device(device)
    trainable = [row for row, layer in enumerate(mobilenet_trace.layers) if layer.params]
    row = data.draw(st.sampled_from(trainable))
    # A weight that trained in part loses its copy when it trains whole: that may need less.
    frozen = drawn[~drawn.trains[:, row]]
    more = _more(frozen, row)
    assert (saved_bytes(more, 2).sum(1) >= saved_bytes(frozen, 2).sum(1)).all()
    assert (peak_bytes(more, profile, 2, optimizer) >= peak_bytes(frozen, profile, 2, optimizer)).all()


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 64), device=st.sampled_from(["rpi4", "cortex-m7"]))
def test_peak_grows_with_the_batch_and_holds_what_is_saved(drawn, batch, device):
    profile = load_device(device)
    peak = peak_bytes(drawn, profile, batch, "sgd")
    assert (peak_bytes(drawn, profile, batch + 1, "sgd") >= peak).all()
    assert (peak >= saved_bytes(drawn, batch, profile.memory.dtypes.activation).sum(1)).all()
    assert (peak_bytes(drawn, profile, batch, "adam") > peak).all()


def test_optimizer_state_is_that_of_what_trains(drawn):
    profile = load_device("rpi4")
    peaks = {name: peak_bytes(drawn, profile, 4, name) for name in STATE}
    trained = drawn.trained_params.sum(1) * 4
    assert (peaks["sgd-momentum"] - peaks["sgd"] == trained).all()
    assert (peaks["adam"] - peaks["sgd"] == 2 * trained).all()


def test_the_peak_is_at_a_row_that_runs(drawn):
    profile = load_device("cortex-m7")
    peak = find_peak(drawn, find_kept(drawn, 1, 1), profile, 1, "sgd")
    each = np.arange(len(drawn))
    assert drawn.present[each, peak.row].all()
    assert (drawn.live[each, peak.row] | ~peak.backward).all()


def test_flash_of_an_arena_holds_every_parameter_once(mobilenet, mobilenet_trace):
    profile = load_device("cortex-m7")
    table = UpdateTable.frozen(mobilenet_trace, 2)
    table.add_lite(3, np.array([False, True]))
    plain, with_module = flash_bytes(table, profile) - profile.flash.code.value
    norms = [m for m in mobilenet.modules() if hasattr(m, "running_mean")]
    vectors = sum(2 * m.num_features for m in norms) + 10
    parameters = sum(p.numel() for p in mobilenet.parameters())
    assert plain == parameters - vectors + 4 * vectors
    assert with_module > plain


def test_an_unknown_optimizer_is_refused(drawn):
    with pytest.raises(InputError, match="rmsprop"):
        peak_bytes(drawn, load_device("rpi4"), 1, "rmsprop")
