"""Whether a problem has any policy that keeps to its limits: asked before anything is searched or written."""

from typing import TYPE_CHECKING

from ..core.errors import BudgetError, InputError
from ..core.metrics import Metric
from ..devices.step.plan import find_areas
from ..spaces.table import UpdateTable

if TYPE_CHECKING:
    from .problem import Problem

#: What else makes a step cheaper.
_OTHERS = ("input_size", "batch", "backbone")


def check_budget(problem: "Problem") -> None:
    """Compare what the head alone needs, the smallest policy, with the limits.

    Raises:
        InputError: The limit on memory is more than the device has.
        BudgetError: The head alone breaks a limit; what it needs is said.
    """
    device, limits = problem.device, problem.limits
    arena = device.memory.kind == "arena"
    capacity = find_areas(device)[0].size if arena else device.memory.capacity.value
    stated = limits.stated()
    for metric, most in stated.items():
        if metric.limit == "memory" and most > capacity:
            raise InputError(
                f"max_memory {metric.show(most)} is more than the {metric.show(capacity)} of RAM that {device.name} has"
                f"{' in one piece' if arena else ''}",
                "max_memory",
            )
    least = problem.exact(UpdateTable.frozen(problem.trace, 1))
    for metric, most in stated.items():
        need = float(getattr(least, metric.name)[0])
        if need > most:
            raise _nothing_fits(problem, metric, most, need, capacity)


def _nothing_fits(problem: "Problem", metric: Metric, most: float, need: float, capacity: float) -> BudgetError:
    option = f"max_{metric.limit}" if metric.limit else ""
    advice = f"raise {option}" if option else f"take a device with more {metric.label}"
    if metric.limit == "memory":
        advice += f" (RAM: {metric.show(capacity)})"
    shape = "x".join(str(side) for side in problem.trace.input_shape[1:])
    return BudgetError(
        f"nothing fits {metric.show(most)} of {metric.label} on {problem.device.name}: the smallest policy (head only) "
        f"of {problem.trace.name} at {shape}, in batches of {problem.batch}, needs {metric.show(need)}: {advice}, or "
        "take a smaller input_size, batch or backbone",
        *filter(None, [option]),
        *_OTHERS,
    )
