"""Why a predicted time or energy may be off: in words, and as a mark that goes wherever the number goes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...core.units import format_joules, format_seconds
from ..profile import DeviceProfile

if TYPE_CHECKING:  # that module loads torch, which showing a number must not wait for
    from ...spaces.trace import Trace

#: Share of a full training step's time above which assumed speeds are told.
TOLD_SHARE = 0.05
#: How a caveat about the time begins, and one about the energy alone.
TIME, ENERGY = "time and energy", "energy"


def caveats(trace: "Trace", profile: DeviceProfile, batch: int) -> tuple[str, ...]:
    """What to know about the time and energy that are predicted for a trace at a batch.

    Args:
        trace: The backbone.
        profile: The device and runtime.
        batch: Samples of one step.
    """
    from .seconds import assumed_share

    latency, name = profile.latency, profile.name
    found = []
    low, high = latency.valid.batch
    if not low <= batch <= high:
        range_ = f"batch {low}" if low == high else f"batches {low} to {high}"
        found.append(f"{TIME} at batch {batch} are extrapolated: {name} was fitted on {range_}")
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
        found.append(f"{TIME} on {name} are in part assumed: the speeds behind {share:.0%} of a full step")
    if profile.power.active.assumed:
        found.append(f"{ENERGY} on {name}: the power is assumed, not measured")
    return tuple(found)


def time_mark(warnings: Iterable[str]) -> str:
    """One word on a predicted time: extrapolated, assumed (in part, or carried over), or empty if neither.

    Args:
        warnings: What `caveats` said.
    """
    told = [warning for warning in warnings if warning.startswith(TIME)]
    if any("are extrapolated" in warning for warning in told):
        return "extrapolated"
    return "assumed" if told else ""


def latency_error(profile: DeviceProfile, warnings: Iterable[str]) -> float | None:
    """The mean error to expect of a predicted time, as a share; None where it is unknown or a caveat stands."""
    error = profile.latency.error
    return None if error is None or time_mark(warnings) else error.mape / 100


def show_time(seconds: float, warnings: Iterable[str], error: float | None = None) -> str:
    """A predicted time as "512 ms ± 7 %", or as "~512 ms" where a caveat stands."""
    text = format_seconds(seconds)
    if time_mark(warnings):
        return f"~{text}"
    return text if error is None else f"{text} ± {100 * error:.2g} %"


def show_energy(joules: float, warnings: Iterable[str]) -> str:
    """A predicted energy, as "~2 J" where a caveat stands."""
    text = format_joules(joules)
    return f"~{text}" if any(warning.startswith((TIME, ENERGY)) for warning in warnings) else text
