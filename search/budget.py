"""Whether a problem has any policy that keeps to its limits: asked before anything is searched or written."""

from ..core.errors import BudgetError, InputError
from ..core.metrics import Metric
from ..devices.costs import Costs
from ..devices.profile import DeviceProfile
from ..devices.step.plan import find_areas
from ..results.limits import Limits, limited
from ..spaces.trace import Trace

#: What else makes a step cheaper.
_OTHERS = ("input_size", "batch", "backbone")


def check_budget(limits: Limits, least: Costs, device: DeviceProfile, trace: Trace, batch: int) -> None:
    """Compare what the head alone needs, the smallest policy, with the limits.

    Args:
        limits: What a step may cost.
        least: What the head alone costs.
        device: The device.
        trace: The backbone, for the message.
        batch: Samples of a step, for the message.

    Raises:
        InputError: The limit on memory is more than the device has.
        BudgetError: The head alone breaks a limit; what it needs is said.
    """
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
    shape = "x".join(str(side) for side in trace.input_shape[1:])
    smallest = f"the smallest policy (head only) of {trace.name} at {shape}, in batches of {batch},"
    for metric, most in stated.items():
        need = float(limited(least, metric)[0])
        if need > most:
            needs = f"{smallest} needs {metric.show(need)}"
            raise _nothing_fits(f"{metric.show(most)} of {metric.label} on {device.name}: {needs}", metric, capacity)


def _nothing_fits(what: str, metric: Metric, capacity: float) -> BudgetError:
    option = f"max_{metric.limit}" if metric.limit else ""
    advice = f"raise {option}" if option else f"take a device with more {metric.label}"
    if metric.limit == "memory":
        advice += f" (RAM: {metric.show(capacity)})"
    return BudgetError(
        f"nothing fits {what}: {advice}, or take a smaller input_size, batch or backbone",
        *filter(None, [option]),
        *_OTHERS,
    )
