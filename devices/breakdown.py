"""What one policy costs, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..spaces.policy import UpdatePolicy
from ..spaces.table import SCALED, UpdateTable
from ..spaces.trace import Trace
from .accountings import ACCOUNTINGS, DEFAULT, Account
from .costs import ARRAYS, batch_of, cost_table, step_macs
from .latency.seconds import step_seconds
from .profile import DeviceProfile
from .step.compiler import compile_step
from .step.plan import Plan, find_plan, make_plan
from .step.program import Program
from .step.setting import StepSetting
from .step.walk import FORWARD_PHASES


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a policy does in one row of the trace, a step.

    Attributes:
        name: Qualified name.
        kind: conv, linear, norm, act or other.
        trains: What trains, in words; empty where nothing does.
        macs_forward: Multiply-accumulates of the forward pass.
        macs_dx: Of the input gradient; 0 where none is needed.
        macs_dw: Of the gradient of the weights that train.
        saved_bytes: Kept: this row's output, and what it keeps besides.
        seconds: All passes and the update.
        peak: Whether the peak is at this row: "forward", "backward" or "".
    """

    name: str
    kind: str
    trains: str
    macs_forward: int
    macs_dx: int
    macs_dw: int
    saved_bytes: int
    seconds: float
    peak: str


@dataclass(frozen=True)
class PolicyCost:
    """What a training step of one policy costs; see `Costs` for the numbers.

    Attributes:
        layers: The rows that the policy has, in data-flow order.
        program: The step, operation by operation, by the accounting's rules of what is kept.
        peak_parts: What the peak is made of, in bytes: weights, optimizer state, saved activations, ...
        accounting: Whose rules saved_bytes, peak_bytes and macs follow.
        parts: What a paper's accounting counts besides, by name: `devices.accountings.Account.parts`.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> cost = ts.estimate(trace, ts.methods.last(trace), ts.load_device("rpi4"))
        >>> cost.saved_bytes == sum(layer.saved_bytes for layer in cost.by_layer())
        True
    """

    saved_bytes: int
    peak_bytes: int
    flash_bytes: int
    macs: int
    latency_s: float
    energy_j: float
    latency_error: float | None
    warnings: tuple[str, ...]
    layers: tuple[LayerCost, ...]
    program: Program = field(repr=False, compare=False)
    peak_parts: Mapping[str, int]
    accounting: str = DEFAULT
    parts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def plan(self) -> Plan:
        """Where the tensors of the step lie: in the device's largest piece of RAM, or in all if only that fits."""
        return find_plan(self._arena)

    @cached_property
    def _arena(self) -> Plan:
        return make_plan(self.program)

    @property
    def arena_bytes(self) -> int | None:
        """Of an arena device, the bytes of the planned arena: at least the peak, nearly always equal; else None."""
        return None if self.program.setting.eager else self._arena.size

    def by_layer(self) -> tuple[LayerCost, ...]:
        """The breakdown by layer: its saved bytes and seconds add up to the policy's.

        So do its MACs, except by an accounting that counts them otherwise.
        """
        return self.layers

    @property
    def peak_at(self) -> str:
        """Where the peak is, as "backward of features.3.conv.0.0"; empty by an accounting that does not say."""
        return next((f"{layer.peak} of {layer.name}" for layer in self.layers if layer.peak), "")


def estimate(
    trace: Trace,
    policy: UpdatePolicy,
    device: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = DEFAULT,
) -> PolicyCost:
    """The costs of one policy, layer by layer.

    Args:
        trace: The backbone.
        policy: What trains.
        device: The device and runtime.
        batch: Samples of one step; without it those that the policy states, or else the device's.
        optimizer: The optimizer's name; without it the one that the policy states, or else the device's.
        accounting: Whose rules to count by: the name of one of `ACCOUNTINGS` (see `Costs`).

    Raises:
        InputError: The policy is for another backbone, or batch, optimizer or accounting are wrong.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> cost = ts.estimate(trace, ts.methods.last(trace), ts.load_device("rpi4"), batch=8)
        >>> cost.saved_bytes, cost.peak_bytes
        (40960, 2679288)
    """
    table, training = UpdateTable.of(trace, [policy]), policy.training
    samples = batch_of(device, training.batch if batch is None else batch)
    return _estimate(table, device, samples, optimizer or training.optimizer or device.optimizer, accounting)


def smallest(
    trace: Trace, device: DeviceProfile, *, batch: int | None = None, optimizer: str | None = None
) -> PolicyCost:
    """The costs of the policy that trains the head alone: what must fit before anything can.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.smallest(trace, ts.load_device("rpi4")).peak_bytes
        2679288
    """
    return _estimate(UpdateTable.frozen(trace, 1), device, batch_of(device, batch), optimizer or device.optimizer)


def _estimate(
    table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str, accounting: str = DEFAULT
) -> PolicyCost:
    costs = cost_table(table, profile, batch=batch, optimizer=optimizer, accounting=accounting)
    rules = ACCOUNTINGS.load(accounting)
    table, element = rules.see(table), profile.memory.dtypes.activation
    samples = StepSetting(table.trace, profile, batch, optimizer).samples
    kept = rules.keep(table, samples, element)
    saved = kept.row_bytes(table.trace, samples, element)[0]
    program = compile_step(table, profile, batch, optimizer, kept)
    peak = program.peak_operation
    seconds = step_seconds(table, profile, batch, optimizer).rows()[0]
    forward, dx, dw = (counts[0] * macs for counts, macs in step_macs(table, batch))
    phase = "forward" if peak.phase in FORWARD_PHASES else "backward"
    layers = tuple(
        LayerCost(
            name=table.trace.rows[row].name,
            kind=table.trace.rows[row].kind,
            trains=_trains(table, row),
            macs_forward=int(forward[row]),
            macs_dx=int(dx[row]),
            macs_dw=int(dw[row]),
            saved_bytes=int(saved[row]),
            seconds=float(seconds[row]),
            peak=phase if peak.row == row else "",
        )
        for row in table.trace.order
        if table.present[0, row]
    )
    scalars = {name: getattr(costs, name)[0].item() for name in ARRAYS}
    cost = PolicyCost(
        **scalars,
        latency_error=costs.latency_error,
        warnings=costs.warnings,
        layers=layers,
        program=program,
        peak_parts={part.value: size for part, size in program.parts().items()},
        accounting=accounting,
    )
    return cost if rules.count is None else _with_account(cost, rules.count(table, batch))


def _with_account(cost: PolicyCost, account: Account) -> PolicyCost:
    """The costs of a policy with the parts and the stored bytes of a paper's accounting."""
    own = {layer.name: layer for layer in cost.layers}
    rows = account.table.trace.rows
    layers = []
    for row in account.table.trace.order:
        if not account.table.present[0, row]:
            continue
        name, kind = rows[row].name, rows[row].kind
        layer = own.get(name, LayerCost(name, kind, "", 0, 0, 0, 0, 0.0, ""))
        peak = "forward" if account.peak_row is not None and account.peak_row[0] == row else ""
        trains, stored = _trains(account.table, row), int(account.stored[0, row])
        layers.append(replace(layer, trains=trains, saved_bytes=stored, peak=peak))
    parts = {name: int(values[0]) for name, values in account.parts.items()}
    return replace(cost, layers=tuple(layers), parts=parts)


def _trains(table: UpdateTable, row: int) -> str:
    layer = table.trace.rows[row]
    words = []
    inputs, outputs = int(table.inputs[0, row]), int(table.outputs[0, row])
    if table.trained_weights[0, row] and layer.kind not in SCALED:
        if inputs < layer.in_channels:
            words.append(f"{inputs}/{layer.in_channels} input channels")
        elif outputs < layer.out_channels:
            words.append(f"{outputs}/{layer.out_channels} output channels")
        else:
            words.append("weight")
    if table.scale[0, row]:
        words.append("scale" if layer.kind == "norm" else "parameter")
    if table.bias[0, row]:
        words.append("shift" if layer.kind == "norm" else "bias")
    if table.statistics[0, row]:
        words.append("statistics")
    if table.sign[0, row]:
        words.append("(sign mask)")
    return ", ".join(words)
