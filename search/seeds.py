"""The policies that every search begins with: the published methods."""

from ..spaces import methods
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from .problem import Problem


def seeds_of(problem: Problem, *, only_last: bool = False) -> list[UpdatePolicy]:
    """The published methods on this problem, the cheapest first; those that need data see its support images.

    Args:
        problem: The problem.
        only_last: Give the head alone, which all others are compared with.
    """
    if only_last:
        return [problem.on_device(methods.last(problem.trace))]
    support = problem.support_task()
    policies = list(methods.named(problem.trace).values())
    policies += methods.named_with_data(problem.trace, support.model, support.images, support.labels).values()
    costs = problem.cost(UpdateTable.of(problem.trace, policies))
    return [problem.on_device(policies[n]) for n in costs.peak_bytes.argsort(kind="stable")]
