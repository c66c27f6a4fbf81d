"""Limits that a member of a front must keep to, as a user states them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import InputError
from ..core.units import format_bytes, format_joules, format_seconds, parse_bytes, parse_joules, parse_seconds
from .records import Member


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper limit on one cost.

    Attributes:
        field: Field of `Member` that it limits.
        label: What users call that cost.
        most: Largest value allowed, in the field's unit.
        show: Writes a value with its unit.
    """

    field: str
    label: str
    most: float
    show: Callable[[float], str]

    def admits(self, member: Member) -> bool:
        """Whether the member keeps to the limit; one whose cost is unknown does not."""
        value = getattr(member, self.field)
        return value is not None and value <= self.most

    def complaint(self, members: Sequence[Member]) -> str:
        """The limit and the member that comes nearest to it, in words."""
        known = [member for member in members if getattr(member, self.field) is not None]
        if not known:
            return f"a known {self.label} (the device states none)"
        least = min(known, key=lambda member: getattr(member, self.field))
        value = self.show(getattr(least, self.field))
        return f"a {self.label} of at most {self.show(self.most)} (the least is {value}, policy {least.hash})"


def limits_of(
    memory: str | float | None = None,
    latency: str | float | None = None,
    energy: str | float | None = None,
) -> list[Limit]:
    """Read limits on peak training memory, step latency and step energy; None is no limit.

    Raises:
        InputError: One is no quantity of its kind.
    """
    stated: list[tuple[str, str, str | float | None, Callable[[str], float], Callable[[float], str]]] = [
        ("peak_bytes", "peak memory", memory, parse_bytes, format_bytes),
        ("latency_s", "step latency", latency, parse_seconds, format_seconds),
        ("energy_j", "step energy", energy, parse_joules, format_joules),
    ]
    limits = []
    for field, label, value, parse, show in stated:
        if value is None:
            continue
        most = parse(value) if isinstance(value, str) else float(value)
        if not most >= 0:
            raise InputError(f"a limit on {label} must not be negative, and not {value!r}")
        limits.append(Limit(field, label, most, show))
    return limits
