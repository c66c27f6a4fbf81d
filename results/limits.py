"""What a training step may cost at most: of policies by the thousand in a search, and of the members of a front."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..core.metrics import LIMITED, METRICS, Metric
from .records import Member

if TYPE_CHECKING:
    from ..devices.costs import Costs


@dataclass(frozen=True, slots=True)
class Limits:
    """What a training step may cost at most, in base units and inclusive; None is no limit.

    Attributes:
        peak_bytes: Peak training memory; on an arena device, the planned arena.
        flash_bytes: Flash, on devices that have one.
        latency_s: Seconds of a step.
        energy_j: Joules of a step.
    """

    peak_bytes: float | None = None
    flash_bytes: float | None = None
    latency_s: float | None = None
    energy_j: float | None = None

    @classmethod
    def read(cls, **stated: str | float | None) -> Self:
        """Read the limits that a user states.

        Args:
            **stated: By what a limit is called (`memory`, `latency`, `energy`): text with a unit, a number in the base
                unit, or None for no limit.

        Raises:
            InputError: One is no quantity of its kind.

        Example:
            >>> Limits.read(memory="256KiB", latency=None).peak_bytes
            262144
        """
        read = {LIMITED[name]: value for name, value in stated.items() if value is not None}
        return cls(**{metric.name: metric.read(value) for metric, value in read.items()})

    def stated(self) -> dict[Metric, float]:
        """The limits that there are, by what they limit."""
        values = {METRICS[field.name]: getattr(self, field.name) for field in fields(self)}
        return {metric: most for metric, most in values.items() if most is not None}

    def exceeded(self, costs: "Costs") -> NDArray[np.bool_]:
        """Whether each of N policies breaks a limit, (N,)."""
        over = np.zeros(len(costs), np.bool_)
        for metric, most in self.stated().items():
            over |= limited(costs, metric) > most
        return over

    def admit(self, member: Member) -> bool:
        """Whether a member keeps to all limits; one with an unknown cost that is limited does not."""
        return all(
            (value := limited(member, metric)) is not None and value <= most for metric, most in self.stated().items()
        )

    def complaint(self, members: Sequence[Member]) -> str:
        """The limits in words, each with the member that comes nearest to it."""
        return " and ".join(_complaint(metric, most, members) for metric, most in self.stated().items())


def limited(of: Any, metric: Metric) -> Any:
    """The values that a limit holds, of `Costs` or of a member: of memory, the planned arena where there is one."""
    return of.memory_bytes if metric.limit == "memory" else getattr(of, metric.name)


def _complaint(metric: Metric, most: float, members: Sequence[Member]) -> str:
    known = [member for member in members if limited(member, metric) is not None]
    if not known:
        return f"a known {metric.label} (the device states none)"
    least = min(known, key=lambda member: limited(member, metric))
    value = metric.show(limited(least, metric))
    return f"a {metric.label} of at most {metric.show(most)} (the least is {value}, policy {least.hash})"
