"""The learning rate that suits a policy, found by trying."""

import math
from collections.abc import Callable

from ..spaces.optimizers import Optimizer
from .training import Answers


def best_rate(optimizer: Optimizer, attempt: Callable[[float], Answers], start: float | None = None) -> float:
    """Walk along an optimizer's rates, up as long as that helps, else down.

    It helps if more answers become right than wrong, by more than a standard error of that difference. So a few
    answers more or less do not lead away from a rate that suits most policies.

    Args:
        optimizer: Says which rates.
        attempt: Trains from the start at a rate, and gives the answers to examples that it did not train on.
        start: Where the walk begins: at the rate nearest to this; None takes the middle one.

    Returns:
        The best rate.

    Raises:
        FloatingPointError: Training diverged at every rate that was tried.
    """
    rates = optimizer.rates
    rate, answers = highest_that_holds(optimizer, attempt, start)
    begun = best = rates.index(rate)
    for direction in (1, -1):
        while 0 <= best + direction < len(rates):
            other = attempt(rates[best + direction])
            if not _beats(other, answers):
                break
            best, answers = best + direction, other
        if best != begun:
            break
    return rates[best]


def highest_that_holds(
    optimizer: Optimizer, attempt: Callable[[float], Answers], start: float | None = None
) -> tuple[float, Answers]:
    """The highest of an optimizer's rates, from the one nearest to `start` down, at which training does not diverge.

    For the arguments and errors see `best_rate`. The answers at that rate are given too.
    """
    rates = optimizer.rates
    first = optimizer.default_rate if start is None else start
    place = min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / first)))
    for rate in reversed(rates[: place + 1]):
        answers = attempt(rate)
        if answers.finite:
            return rate, answers
    raise FloatingPointError(f"training diverges at every learning rate down to {rates[0]:g}")


def _beats(new: Answers, old: Answers) -> bool:
    gain = int(new.right.sum()) - int(old.right.sum())
    return new.finite and gain > math.sqrt(int((new.right != old.right).sum()))
