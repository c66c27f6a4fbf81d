"""The suites find what is wrong: each is given something that breaks a promise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

import tinysearch as ts
from tinysearch.search.data.images import ArraySplit, Dataset
from tinysearch.search.problem import Problem
from tinysearch.search.proxies import Proxy, ProxyKind, Score
from tinysearch.search.request import Request
from tinysearch.search.samplers.random import RandomSampler
from tinysearch.spaces import methods
from tinysearch.spaces.methods import Method
from tinysearch.spaces.optimizers import SGD, SGD_MOMENTUM
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.space import Genotype, UpdateSpace
from tinysearch.testing import (
    BackboneSuite,
    DatasetSuite,
    DeviceSuite,
    MethodSuite,
    OptimizerSuite,
    ProxySuite,
    SamplerSuite,
)
from tinysearch.testing.networks import OneConv, SmallNet, traced
from tinysearch.testing.proxies import Sealed


class Forgetful(RandomSampler):
    """Draws by how often it was asked, which a resumed run does not repeat."""

    asked = 0

    def ask(self, attempt: int = 0) -> Genotype:
        self.asked += 1
        return super().ask(attempt + 1000 * self.asked)


class Choosy(RandomSampler):
    """Cannot stand infinity."""

    def tell(self, row: Genotype, values: Sequence[float]) -> None:
        assert np.isfinite(values).all()
        super().tell(row, values)


class Stubborn(RandomSampler):
    """Gives the same row whatever the attempt."""

    def ask(self, attempt: int = 0) -> Genotype:
        return super().ask(0)


def sampler_suite() -> Iterator[Callable[[], None]]:
    suite, space = SamplerSuite(), UpdateSpace(traced(SmallNet))
    yield lambda: suite.test_questions_between_trials_change_nothing(Forgetful, space, 10)
    yield lambda: suite.test_equal_and_infinite_values_are_taken(Choosy, space, (np.inf,) * 3)
    yield lambda: suite.test_attempts_vary_the_answer_and_repeat_it_when_repeated(Stubborn, space, 0)


def optimizer_suite() -> Iterator[Callable[[], None]]:
    suite = OptimizerSuite()
    yield lambda: suite.test_it_keeps_the_state_that_it_declares(replace(SGD, state=1))
    yield lambda: suite.test_it_keeps_the_state_that_it_declares(replace(SGD_MOMENTUM, state=0))
    yield lambda: suite.test_rates_ascend_and_the_middle_one_is_the_default(replace(SGD, rates=(1.0, 0.1)))
    decaying = replace(SGD, make=lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, weight_decay=0.1))
    yield lambda: suite.test_nothing_moves_without_a_gradient(decaying)


def method_suite() -> Iterator[Callable[[], None]]:
    suite = MethodSuite()
    twice = Method("twice", "the same name twice", lambda trace: [methods.last(trace), methods.last(trace)])
    yield lambda: suite.test_its_policies_are_for_the_trace_and_have_names_of_their_own(twice, SmallNet)
    other = Method("other", "for one network only", lambda trace: [methods.bias(traced(SmallNet))])
    yield lambda: suite.test_its_policies_are_for_the_trace_and_have_names_of_their_own(other, OneConv)
    count = iter(range(1, 9))
    fickle = Method("fickle", "another at every call", lambda trace: [methods.mobiletl(trace, next(count) % 3 + 1)])
    yield lambda: suite.test_its_policies_are_the_same_at_every_call(fickle, SmallNet)


def dataset_suite() -> Iterator[Callable[[], None]]:
    suite = DatasetSuite()
    split = ArraySplit(np.zeros((4, 8, 8), np.uint8), [0, 1, 1, 1])
    data = Dataset("x", ("a", "b", "c"), split, split, "nowhere")
    yield lambda: suite.test_it_says_what_it_is(data)
    yield lambda: suite.test_both_splits_hold_every_class(data, split)
    yield lambda: suite.test_images_are_decoded_at_the_size_that_is_asked_for(split, 8)


def device_suite() -> Iterator[Callable[[], None]]:
    profile = ts.load_device("cortex-m7-int8")
    budget = profile.memory.budget.model_copy(update={"value": 100})
    tiny = profile.model_copy(update={"memory": profile.memory.model_copy(update={"budget": budget})})
    yield lambda: DeviceSuite().test_the_budget_is_within_the_memory(tiny)


def backbone_suite() -> Iterator[Callable[[], None]]:
    suite = BackboneSuite()
    yield lambda: suite.test_it_maps_images_to_logits(lambda classes: SmallNet(5), 16, 7)
    sizes = iter((3, 4))
    yield lambda: suite.test_it_is_the_same_network_at_every_call(lambda classes: SmallNet(next(sizes)))


class Drifting(Proxy):
    """Says more each time, and what chance says."""

    def __init__(self, problem: Problem | None = None) -> None:
        self._count = 0.0
        if problem is not None:
            problem.dataset.test.load([0], 16)

    def __call__(self, policy: UpdatePolicy) -> Score:
        self._count += 0.01
        return Score(self._count, 0.0, float(torch.rand(())), 0.1, 0.0)


class Careless(Proxy):
    """Trains the problem's own backbone."""

    def __init__(self, problem: Problem) -> None:
        self._backbone = problem.backbone

    def __call__(self, policy: UpdatePolicy) -> Score:
        with torch.no_grad():
            next(self._backbone.parameters()).add_(1)
        return Score(0.5, 0.0, 0.0, 0.1, 0.0, images=(3,))


def proxy_suite() -> Iterator[Callable[[], None]]:
    suite = ProxySuite()
    problem = Problem.of(Request.make(backbone="tinysearch.testing.networks:SmallNet", weights="none"))
    problem = replace(problem, dataset=replace(problem.dataset, test=Sealed(problem.dataset.test.labels)))
    policies = [methods.last(problem.trace), methods.bias(problem.trace)]
    drifting = ProxyKind("drifting", "", lambda problem, settings: Drifting)
    yield lambda: suite.test_settings_say_what_it_is_and_refuse_what_they_do_not_know(drifting)
    yield lambda: suite.test_scores_do_not_depend_on_what_was_scored_before(drifting, problem, policies)
    yield lambda: suite.test_scores_do_not_depend_on_the_global_random_state(drifting, problem, policies)
    peeping = ProxyKind("peeping", "looks ahead", lambda problem, settings: lambda: Drifting(problem))
    yield lambda: suite.test_scores_are_what_they_say(peeping, problem, policies)
    careless = ProxyKind("careless", "changes things", lambda problem, settings: lambda: Careless(problem))
    yield lambda: suite.test_scores_are_what_they_say(careless, problem, policies)
    yield lambda: suite.test_the_backbone_is_left_as_it_was(careless, problem, policies)


SUITES = (sampler_suite, optimizer_suite, method_suite, dataset_suite, device_suite, backbone_suite, proxy_suite)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_a_broken_promise_is_found(suite: Callable[[], Iterator[Callable[[], None]]]) -> None:
    for check in suite():
        with pytest.raises(AssertionError):
            check()
