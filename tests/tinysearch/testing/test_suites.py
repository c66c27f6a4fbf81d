"""The suites find what is wrong: each is given something that breaks a promise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

import tinysearch as ts
from tinysearch.search.data.images import ArraySplit, Dataset
from tinysearch.search.samplers.random import RandomSampler
from tinysearch.spaces import methods
from tinysearch.spaces.methods import Method
from tinysearch.spaces.optimizers import SGD, SGD_MOMENTUM
from tinysearch.spaces.space import Rows, UpdateSpace
from tinysearch.testing import (
    BackboneSuite,
    DatasetSuite,
    DeviceSuite,
    MethodSuite,
    OptimizerSuite,
    SamplerSuite,
)
from tinysearch.testing.networks import OneConv, SmallNet, traced


class Forgetful(RandomSampler):
    """Draws by how often it was asked, which a resumed run does not repeat."""

    asked = 0

    def ask(self, attempt: int = 0) -> Rows:
        self.asked += 1
        return super().ask(attempt + 1000 * self.asked)


class Choosy(RandomSampler):
    """Cannot stand infinity."""

    def tell(self, row: Rows, values: Sequence[float]) -> None:
        assert np.isfinite(values).all()
        super().tell(row, values)


class Stubborn(RandomSampler):
    """Gives the same row whatever the attempt."""

    def ask(self, attempt: int = 0) -> Rows:
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
    profile = ts.load_device("cortex-m7")
    budget = profile.memory.budget.model_copy(update={"value": 100})
    tiny = profile.model_copy(update={"memory": profile.memory.model_copy(update={"budget": budget})})
    yield lambda: DeviceSuite().test_the_budget_is_within_the_memory(tiny)


def backbone_suite() -> Iterator[Callable[[], None]]:
    suite = BackboneSuite()
    yield lambda: suite.test_it_maps_images_to_logits(lambda classes: SmallNet(5), 16, 7)
    sizes = iter((3, 4))
    yield lambda: suite.test_it_is_the_same_network_at_every_call(lambda classes: SmallNet(next(sizes)))


SUITES = (sampler_suite, optimizer_suite, method_suite, dataset_suite, device_suite, backbone_suite)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_a_broken_promise_is_found(suite: Callable[[], Iterator[Callable[[], None]]]) -> None:
    for check in suite():
        with pytest.raises(AssertionError):
            check()
