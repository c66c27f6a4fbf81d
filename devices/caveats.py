"""Why a predicted time or energy may be off, in words that go wherever the number goes."""

from collections.abc import Iterable

import numpy as np

from ..spaces.trace import Trace
from .latency import kernel_seconds
from .records import DeviceProfile

#: Share of a full training step's time above which assumed speeds are told.
TOLD_SHARE = 0.05

#: How a caveat about the time begins, and one about the energy alone.
TIME, ENERGY = "time and energy", "energy"


def caveats(trace: Trace, profile: DeviceProfile, batch: int) -> tuple[str, ...]:
    """What to know about the time and energy that are predicted for a trace at a batch.

    Args:
        trace: The backbone.
        profile: The device and runtime.
        batch: Samples of one step.
    """
    latency, name = profile.latency, profile.name
    found = []
    low, high = latency.valid.batch
    if not low <= batch <= high:
        found.append(f"{TIME} at batch {batch} are extrapolated: {name} was fitted on batches {low} to {high}")
    least, most = latency.valid.macs
    if not least <= trace.macs_forward <= most:
        found.append(
            f"{TIME} of {trace.macs_forward / 1e6:.4g} MMAC are extrapolated: {name} was fitted on {least / 1e6:.4g} "
            f"to {most / 1e6:.4g} MMAC"
        )
    if latency.transferred:
        found.append(f"{TIME} on {name} are carried over: {latency.transferred}")
    share = assumed_share(trace, profile, batch)
    if share > TOLD_SHARE:
        found.append(f"{TIME} on {name}: {share:.0%} of a full step comes from speeds that are assumed, not measured")
    if profile.power.active.assumed:
        found.append(f"{ENERGY} on {name}: the power is assumed, not measured")
    return tuple(found)


def about_time(warnings: Iterable[str]) -> bool:
    """Whether any of some warnings says that a predicted time may be off."""
    return any(warning.startswith(TIME) for warning in warnings)


def assumed_share(trace: Trace, profile: DeviceProfile, batch: int) -> float:
    """Share of the time of a full training step, 0 to 1, that comes from kernels which no one has measured."""
    total = guessed = 0.0
    for seconds, kernels in kernel_seconds(trace, profile, batch):
        total += float(seconds.sum())
        guessed += float(seconds @ np.array([kernel.assumed for kernel in kernels], np.float64))
    return guessed / total if total else 0.0
