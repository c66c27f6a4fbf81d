"""The quantities that this project predicts, limits, trades and shows: one table of them.

A quantity has one name everywhere: a field of costs, of trials and of members, and a key of files.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import units
from .errors import InputError


@dataclass(frozen=True, slots=True)
class Unit:
    """What a quantity is counted in.

    Attributes:
        symbol: Of the base unit, which values are kept in.
        show: Writes a value for people.
        parse: Reads what people write; None where nobody does.
        base: Round numbers are multiples of powers of it.
    """

    symbol: str
    show: Callable[[float], str]
    parse: Callable[[str], float] | None = None
    base: int = 1000


def format_share(value: float) -> str:
    """A share as "93.1 %"."""
    return f"{100 * value:.1f} %"


def format_macs(value: float) -> str:
    """Work in millions, as "12.5 M"."""
    return f"{value / 1e6:.4g} M"


BYTES = Unit("B", units.format_bytes, units.parse_bytes, 1024)
SECONDS = Unit("s", units.format_seconds, units.parse_seconds)
JOULES = Unit("J", units.format_joules, units.parse_joules)
MACS = Unit("MAC", format_macs)
SHARE = Unit("", format_share)
NATS = Unit("nat", lambda value: f"{value:.3g}")


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity.

    Attributes:
        name: The field that holds it.
        label: What people call it.
        unit: What it is counted in.
        minimise: Whether small is good.
        limit: What people call a limit on it, as in `max_memory`; empty where none can be set.
    """

    name: str
    label: str
    unit: Unit
    minimise: bool = True
    limit: str = ""

    def show(self, value: float) -> str:
        """A value with its unit."""
        return self.unit.show(value)

    def read(self, value: str | float) -> float:
        """A limit as people state it: text with a unit, or a number in the base unit.

        Raises:
            InputError: It is neither, or negative.

        Example:
            >>> METRICS["peak_bytes"].read("256KiB")
            262144
        """
        if isinstance(value, str) and self.unit.parse is not None:
            return self.unit.parse(value)
        number = float(value)
        if not number >= 0:
            raise InputError(f"a limit on {self.label} must not be negative, and not {value!r}")
        return number


#: Every quantity by name.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", SHARE, minimise=False),
        Metric("accuracy_se", "standard error", SHARE),
        Metric("loss", "loss", NATS),
        Metric("peak_bytes", "peak memory", BYTES, limit="memory"),
        Metric("arena_bytes", "arena", BYTES),
        Metric("saved_bytes", "saved activations", BYTES),
        Metric("flash_bytes", "flash", BYTES),
        Metric("macs", "work", MACS),
        Metric("latency_s", "step latency", SECONDS, limit="latency"),
        Metric("energy_j", "step energy", JOULES, limit="energy"),
    )
}
#: Those that are known of a policy before it is trained.
COSTS = tuple(name for name in METRICS if name not in ("accuracy", "accuracy_se", "loss"))
#: Those that a user can set a limit to, by what the limit is called.
LIMITED: dict[str, Metric] = {metric.limit: metric for metric in METRICS.values() if metric.limit}
