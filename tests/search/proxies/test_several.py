"""A proxy for several networks: each policy is judged by its own network's, and only one is awake."""

from collections.abc import Callable
from dataclasses import replace

from tinysearch.search.problem import Problem
from tinysearch.search.proxies import Proxy, Score, make_proxy
from tinysearch.search.proxies.few_shot import FewShotProxy
from tinysearch.search.proxies.several import SeveralProxies
from tinysearch.spaces import methods
from tinysearch.spaces.policy import UpdatePolicy


class Logging(Proxy):
    """Notes what it is asked."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        log.append(f"{name} made")

    def __call__(self, policy: UpdatePolicy) -> Score:
        self.log.append(self.name)
        return Score(0.5, 0.1, 1.0, 1e-3, 0.0)

    def rest(self) -> None:
        self.log.append(f"{self.name} rests")


def test_each_network_is_asked_for_its_own_and_the_others_rest() -> None:
    log: list[str] = []
    policies = [UpdatePolicy(backbone="n", input_shape=(3, size, size), head="h") for size in (16, 32)]
    several = SeveralProxies(
        {
            (policy.backbone, policy.input_shape): lambda name=str(policy.input_shape[1]): Logging(name, log)
            for policy in policies
        }
    )
    for place in (0, 0, 1, 0):
        several(policies[place])
    assert log == ["16 made", "16", "16", "16 rests", "32 made", "32", "32 rests", "16"]


def test_a_proxy_says_the_same_after_a_rest(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    policy = methods.mobiletl(problem.trace, 1)
    proxy = make_proxy(problem)()
    assert isinstance(proxy, FewShotProxy)
    first = proxy(policy)
    assert proxy._cache
    proxy.rest()
    assert not proxy._cache
    assert not proxy._episodes
    assert replace(proxy(policy), seconds=0.0) == replace(first, seconds=0.0)


def test_a_proxy_that_has_nothing_to_free_may_rest() -> None:
    class Plain(Proxy):
        def __call__(self, policy: UpdatePolicy) -> Score:
            return Score(0.5, 0.1, 1.0, 1e-3, 0.0)

    Plain().rest()
