"""From measured steps to the latency part of a profile.

First kernels are fitted to rows, each as `overhead + MACs / P + bytes / B` by its class, then the coefficients of whole
steps (`devices.latency`) to steps. All are non-negative and minimise relative errors (Lawson and Hanson's NNLS),
outliers weighing less, as a machine that does something else for a moment makes a row late, never early.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import kendalltau

from ...core.errors import InputError
from ...spaces.optimizers import OPTIMIZERS
from ..latency.seconds import Work, step_seconds
from ..profile import DeviceProfile
from ..profile.kernels import CLASS_KEY, COARSE, FitError, Kernel, Latency, Validity, class_keys
from ..profile.quantities import Sourced
from .results import Sample

Floats = npt.NDArray[np.float64]
#: A coefficient: phase, class, and what it is a rate of.
Coefficient = tuple[str, str, str]

#: Least rows that a class is fitted to; rows of rarer ones count for the next coarser class.
LEAST_ROWS = 12
#: Least steps that make a profile.
LEAST_STEPS = 8
#: Passes over the fit in which outliers lose weight, and the relative error from which they do.
REWEIGHTINGS, OUTLIER = 4, 0.15
#: Parts into which networks are divided, each predicted by a fit to the others.
FOLDS = 5
#: Largest mean error in percent of a profile of high and of medium confidence.
HIGH, MEDIUM = 10.0, 20.0
#: Whose speed a coarse class has that the backbone has no layer of.
STANDS_IN = ("pointwise", "dense", "linear", "elementwise")


@dataclass
class _Observations:
    """Seconds as sums of coefficients times amounts."""

    seconds: list[float] = field(default_factory=list)
    amounts: list[dict[Coefficient, float]] = field(default_factory=list)

    def add(self, seconds: float | None, amounts: Mapping[Coefficient, float]) -> None:
        if seconds and amounts:
            self.seconds.append(seconds)
            self.amounts.append(dict(amounts))

    def solve(self) -> dict[Coefficient, float]:
        names = sorted({name for amounts in self.amounts for name in amounts})
        columns = {name: number for number, name in enumerate(names)}
        matrix = np.zeros((len(self.seconds), len(names)))
        for row, amounts in enumerate(self.amounts):
            for name, amount in amounts.items():
                matrix[row, columns[name]] = amount
        solution = relative_nnls(matrix, np.array(self.seconds)) if names else np.zeros(0)
        return dict(zip(names, solution.tolist(), strict=True))


def relative_nnls(matrix: Floats, target: Floats) -> Floats:
    """Non-negative x that minimises the relative errors of matrix @ x, those of outliers weighing less.

    Args:
        matrix: (N, D), not negative.
        target: (N,), positive.

    Returns:
        (D,).
    """
    scale = 1 / target
    weights = np.ones(len(target))
    solution = np.zeros(matrix.shape[1])
    for _ in range(REWEIGHTINGS):
        scaled = matrix * (scale * weights)[:, None]
        sizes = np.linalg.norm(scaled, axis=0)
        sizes[sizes == 0] = 1.0
        # The triangle has the same least-squares problem in as many rows as there are columns.
        triangle: Floats = np.linalg.qr(np.column_stack((scaled / sizes, weights))).R
        solution = nnls(triangle[:, :-1], triangle[:, -1], maxiter=100 * (1 + len(sizes)))[0] / sizes
        errors = np.abs(matrix @ solution - target) * scale
        limit = max(OUTLIER, 2 * float(np.median(errors)))
        weights = np.sqrt(np.minimum(1.0, limit / np.maximum(errors, 1e-12)))
    return solution


@dataclass(frozen=True)
class _Row:
    """A measured row: its classes, finest first, and what each phase of it did, as (overheads, MACs, bytes)."""

    classes: tuple[str, ...]
    forward: tuple[float, float, float]
    mask: float
    dx: tuple[float, float, float] | None
    dw: tuple[float, float, float] | None
    bias: float
    seconds_forward: float | None
    seconds_backward: float | None


def _rows(sample: Sample, profile: DeviceProfile, batch: int) -> list[_Row]:
    table = sample.table
    work = Work.of(table.trace, batch, profile.memory.dtypes)
    found = []
    for number in np.flatnonzero(table.present[0]):
        layer = table.trace.rows[number]
        macs, live = float(work.forward.macs[number]), bool(table.live_inputs[0, number])
        share = float(table.trained_weights[0, number]) / max(1, layer.weights)
        packed = layer.kind == "act" and any(kept.extra == layer.mask_bytes for kept in layer.kept.each)
        masked = live and (packed or bool(table.sign[0, number]))
        found.append(
            _Row(
                classes=tuple(key for key in class_keys(layer) if re.fullmatch(CLASS_KEY, key)),
                forward=(1.0, macs, float(work.forward.bytes[number])),
                mask=float(work.mask.bytes[number]) if masked else 0.0,
                dx=(1.0, float(work.dx.macs[number]), float(work.dx.bytes[number])) if live else None,
                dw=(1.0, macs * share, float(work.dw.bytes[number]) * share) if share else None,
                bias=float(work.bias.bytes[number]) if table.bias[0, number] else 0.0,
                seconds_forward=sample.forward.get(layer.name),
                seconds_backward=sample.backward.get(layer.name),
            )
        )
    return found


def _fit_kernels(rows: Sequence[_Row], *, coarse: bool) -> dict[Coefficient, float]:
    """Coefficients of the finest classes that have rows enough, or of the coarsest ones."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for phase, work in (("forward", row.forward), ("dx", row.dx), ("dw", row.dw)):
            for key in row.classes:
                counts[phase, key] = counts.get((phase, key), 0) + (work is not None)

    def amounts(phase: str, row: _Row, work: tuple[float, float, float] | None) -> dict[Coefficient, float]:
        if work is None:
            return {}
        enough = [key for key in row.classes if counts[phase, key] >= LEAST_ROWS]
        key = row.classes[-1] if coarse or not enough else enough[0]
        return {
            (phase, key, unit): amount
            for unit, amount in zip(("overhead", "macs", "bytes"), work, strict=True)
            if amount
        }

    def one_pass(phase: str, key: str, moved: float) -> dict[Coefficient, float]:
        return {(phase, key, "overhead"): 1.0, (phase, key, "bytes"): moved} if moved else {}

    forward, backward = _Observations(), _Observations()
    for row in rows:
        forward.add(row.seconds_forward, amounts("forward", row, row.forward) | one_pass("forward", "mask", row.mask))
        backward.add(
            row.seconds_backward,
            amounts("dx", row, row.dx)
            | one_pass("dx", "mask", row.mask)
            | amounts("dw", row, row.dw)
            | one_pass("dw", "bias", row.bias),
        )
    return forward.solve() | backward.solve()


def _phases(rows: Sequence[_Row], source: str) -> dict[str, dict[str, Kernel]]:
    coefficients = _fit_kernels(rows, coarse=True) | _fit_kernels(rows, coarse=False)
    phases: dict[str, dict[str, Kernel]] = {"forward": {}, "dx": {}, "dw": {}}
    for phase, kernels in phases.items():
        for key in sorted({key for at, key, _ in coefficients if at == phase}):
            kernels[key] = Kernel(
                overhead=_seconds(coefficients.get((phase, key, "overhead"), 0.0)),
                macs=_rate(coefficients.get((phase, key, "macs"), 0.0)),
                bytes=_rate(coefficients.get((phase, key, "bytes"), 0.0)),
                source=source,
            )
        for key in COARSE:
            if key not in kernels:
                other = next((name for name in STANDS_IN if name in kernels), None)
                if other is None:  # a phase of which nothing was measured
                    kernels[key] = phases["forward"][key].model_copy(
                        update={"assumed": True, "source": "as the forward pass"}
                    )
                else:
                    note = f"the backbone has no such layer; as {other}"
                    kernels[key] = kernels[other].model_copy(update={"assumed": True, "source": note})
    return phases


def fit_latency(samples: Sequence[Sample], profile: DeviceProfile, source: str) -> Latency:
    """The latency part of a profile, without its error.

    Args:
        samples: Measured steps.
        profile: Whose memory, batch and optimizer the steps had; its latency is not looked at.
        source: Where the numbers come from.

    Raises:
        InputError: There are too few steps.
    """
    if len(samples) < LEAST_STEPS:
        raise InputError(f"{len(samples)} steps were measured, of at least {LEAST_STEPS} that a profile needs")
    batch = profile.batch
    phases = _phases([row for sample in samples for row in _rows(sample, profile, batch)], source)
    macs = [float(sample.table.trace.macs_forward) for sample in samples]
    plain = Latency(
        forward=phases["forward"],
        dx=phases["dx"],
        dw=phases["dw"],
        update=Kernel(overhead=0.0, source=source),
        forward_scale=Sourced(value=1.0, source=source),
        backward_scale=Sourced(value=1.0, source=source),
        constant=Sourced(value=0.0, source=source),
        fused=False,
        confidence="low",
        valid=Validity(batch=(batch, batch), macs=(min(macs), max(macs))),
    )
    seconds = np.array([sample.seconds for sample in samples])
    solution = relative_nnls(_step_parts(samples, profile, plain), seconds)
    a_f, a_b, per_tensor, per_byte, constant = solution.tolist()
    return plain.model_copy(
        update={
            # A scale is positive; one that is not needed is as good as none.
            "forward_scale": Sourced(value=_rounded(max(a_f, 1e-3)), source=source),
            "backward_scale": Sourced(value=_rounded(max(a_b, 1e-3)), source=source),
            "update": Kernel(overhead=_seconds(per_tensor), bytes=_rate(per_byte), source=source),
            "constant": Sourced(value=_seconds(constant), source=source),
        }
    )


def _step_parts(samples: Sequence[Sample], profile: DeviceProfile, plain: Latency) -> Floats:
    """Of each step: its forward and its backward kernels' seconds, trained tensors, the update's bytes, and 1."""
    once = profile.model_copy(update={"latency": plain})
    twice = plain.model_copy(update={"backward_scale": Sourced(value=2.0, source="-")})
    double = profile.model_copy(update={"latency": twice})
    parts = []
    for sample in samples:
        table = sample.table
        total = step_seconds(table, once, profile.batch, profile.optimizer).total[0]
        back = step_seconds(table, double, profile.batch, profile.optimizer).total[0] - total
        tensors = int((table.trained_weights > 0).sum() + table.bias.sum())
        moved = int(table.trained_params.sum()) * 4 * OPTIMIZERS.load(profile.optimizer).traffic
        parts.append([total - back, back, tensors, moved, 1.0])
    return np.array(parts)


def predict(samples: Iterable[Sample], profile: DeviceProfile) -> Floats:
    """Seconds of each step, (N,)."""
    return np.array(
        [step_seconds(sample.table, profile, profile.batch, profile.optimizer).total[0] for sample in samples]
    )


def held_out(samples: Sequence[Sample], profile: DeviceProfile) -> tuple[Floats, Floats]:
    """Predicted and measured seconds, each step predicted by a fit to other networks' steps; empty if there are few."""
    networks = sorted({sample.network for sample in samples})
    predicted: list[float] = []
    measured: list[float] = []
    for fold in range(min(FOLDS, len(networks))):
        out = set(networks[fold::FOLDS])
        rest = [sample for sample in samples if sample.network not in out]
        mine = [sample for sample in samples if sample.network in out]
        if len(rest) < LEAST_STEPS:
            return np.zeros(0), np.zeros(0)
        fitted = profile.model_copy(update={"latency": fit_latency(rest, profile, "-")})
        predicted += predict(mine, fitted).tolist()
        measured += [sample.seconds for sample in mine]
    return np.array(predicted), np.array(measured)


def fit_error(predicted: Floats, measured: Floats, *, of: str, source: str, repeatability: float | None) -> FitError:
    """How far predictions are off, in nn-Meter's terms.

    Args:
        predicted: (N,).
        measured: (N,), positive.
        of: What the points are.
        source: Where they come from.
        repeatability: Of the measurement, in percent.
    """
    errors = (predicted - measured) / measured
    tau = float(kendalltau(predicted, measured).statistic) if len(errors) > 1 else float("nan")
    return FitError(
        of=of,
        mape=_percent(np.abs(errors).mean()),
        within_10=_percent((np.abs(errors) <= 0.1).mean()),
        within_20=_percent((np.abs(errors) <= 0.2).mean()),
        tau=round(tau, 3) if np.isfinite(tau) else None,
        bias=_percent(np.median(errors)),
        repeatability=None if repeatability is None else round(repeatability, 1),
        points=len(errors),
        source=source,
    )


def confidence(error: FitError | None) -> str:
    """high, medium or low."""
    if error is None or error.mape > MEDIUM:
        return "low"
    return "high" if error.mape <= HIGH else "medium"


def _percent(share: float) -> float:
    return round(100 * float(share), 1)


def _rounded(value: float, unit: float = 1.0) -> float:
    """Four digits, in a unit in which it is written short: more would claim what no measurement here has."""
    return float(f"{value / unit:.4g}") * unit


def _seconds(value: float) -> float:
    return _rounded(value, 1e-6)


def _rate(cost: float) -> float | None:
    return _rounded(1 / cost, 1e9) if cost > 0 else None
