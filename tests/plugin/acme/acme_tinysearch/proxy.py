"""A proxy: the more layers train, the better."""

from collections.abc import Callable
from functools import partial

from pydantic import Field

from tinysearch.search.problem import Problem
from tinysearch.search.proxies import Proxy, ProxyKind, ProxySettings, Score
from tinysearch.spaces.policy import UpdatePolicy


class CountSettings(ProxySettings):
    """What it can be told: `steps`, by which a layer counts."""

    steps: int = Field(default=10, ge=1)


class Count(Proxy):
    """Counts layers."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __call__(self, policy: UpdatePolicy) -> Score:
        """The share of accuracy that many layers would reach."""
        accuracy = 1 - 1 / (1 + self._steps * (len(policy.layers) + len(policy.norms)))
        return Score(accuracy, 0.01, 1 - accuracy, 0.5, 0.0)


def prepare(problem: Problem, settings: CountSettings) -> Callable[[], Proxy]:
    """Nothing of the problem is needed."""
    return partial(Count, settings.steps)


KIND = ProxyKind("acme-count", "how many layers train", prepare, CountSettings)
