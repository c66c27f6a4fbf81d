"""What every proxy must do."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError

from ..search.data import ImageSplit
from ..search.problem import Problem
from ..search.proxies import ProxyKind, Score
from ..search.request import Request
from ..search.threads import one_thread
from ..spaces import methods
from ..spaces.policy import UpdatePolicy

#: Policies that are scored; enough that their order can matter.
TRIED = ("last", "bias", "full")


class Sealed(ImageSplit):
    """A split that no one may look at."""

    def load(self, indices: ArrayLike, size: int) -> torch.Tensor:
        """Complain."""
        raise AssertionError("a proxy must not look at the test split")

    def _image(self, index: int) -> Any:
        raise NotImplementedError("load complains before")


class ProxySuite:
    """Tests of a proxy; the fixture `kind` gives its kind."""

    @pytest.fixture
    def kind(self) -> ProxyKind:
        """The kind."""
        raise NotImplementedError("give the proxy's kind by a fixture of this name")

    @pytest.fixture
    def stated(self) -> Mapping[str, Any]:
        """What the proxy is told; less work than by default makes the tests faster."""
        return {"shot": 5, "queries": 80}

    @pytest.fixture
    def problem(self, kind: ProxyKind, stated: Mapping[str, Any]) -> Problem:
        """A small network on scikit-learn's digits, whose test split is sealed."""
        request = Request.make(backbone="tinysearch.testing.networks:SmallNet", weights="none")
        told = kind.settings.model_validate({"name": kind.name, **stated})
        problem = Problem.of(request.model_copy(update={"proxy": told}))
        return replace(problem, dataset=replace(problem.dataset, test=Sealed(problem.dataset.test.labels)))

    @pytest.fixture
    def policies(self, problem: Problem) -> list[UpdatePolicy]:
        """The policies that are scored, with the device's optimizer."""
        named = methods.named(problem.trace)
        return [problem.on_device(named[name]) for name in TRIED]

    @staticmethod
    def _scores(kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]) -> list[Score]:
        """The scores of policies by a new proxy, without what depends on the clock."""
        with one_thread():
            proxy = kind.prepare(problem, problem.request.proxy)()
            return [replace(proxy(policy), seconds=0.0) for policy in policies]

    def test_settings_say_what_it_is_and_refuse_what_they_do_not_know(self, kind: ProxyKind) -> None:
        """A misspelt setting would else be ignored."""
        assert kind.summary
        assert kind.settings.model_validate({"name": kind.name}).describe()
        with pytest.raises(ValidationError):
            kind.settings.model_validate({"name": kind.name, "no_such_setting": 1})

    def test_scores_are_what_they_say(self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]) -> None:
        """A rate that a policy can have, and an image for each answer or none; numbers are those of a `Score`."""
        for policy, score in zip(policies, self._scores(kind, problem, policies), strict=True):
            assert len(score.images) in (0, len(score.answers))
            assert policy.with_training(learning_rate=score.learning_rate).hash == policy.hash
            assert kind.prepare(problem, problem.request.proxy)()(policy).seconds >= 0

    def test_policies_can_be_scored_again_in_another_round(
        self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]
    ) -> None:
        """With other episodes, another seed, and the rates that the first scores said; and the same each time."""
        rated = [
            policy.with_training(learning_rate=score.learning_rate)
            for policy, score in zip(policies, self._scores(kind, problem, policies), strict=True)
        ]
        another = replace(problem, round=1)
        again = self._scores(kind, another, rated)
        assert again == self._scores(kind, another, rated)

    def test_scores_do_not_depend_on_what_was_scored_before(
        self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]
    ) -> None:
        """Which process scores what is by chance."""
        there = self._scores(kind, problem, [*policies, *policies])
        back = self._scores(kind, problem, policies[::-1])
        assert there == back[::-1] * 2

    def test_scores_do_not_depend_on_the_global_random_state(
        self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]
    ) -> None:
        """A resumed run has another one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first = self._scores(kind, problem, policies)
            torch.manual_seed(2)
            assert self._scores(kind, problem, policies) == first

    def test_it_can_be_sent_to_another_process(
        self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]
    ) -> None:
        """The function that makes it is, and what comes out there scores alike."""
        with one_thread():
            made = pickle.loads(pickle.dumps(kind.prepare(problem, problem.request.proxy)))()
            score = replace(made(policies[0]), seconds=0.0)
        assert [score] == self._scores(kind, problem, policies[:1])

    def test_the_backbone_is_left_as_it_was(
        self, kind: ProxyKind, problem: Problem, policies: list[UpdatePolicy]
    ) -> None:
        """Values, gradients, and what is trained."""
        parameters = list(problem.backbone.parameters())
        before = {name: tensor.clone() for name, tensor in problem.backbone.state_dict().items()}
        needs = [parameter.requires_grad for parameter in parameters]
        self._scores(kind, problem, policies)
        assert all(torch.equal(tensor, before[name]) for name, tensor in problem.backbone.state_dict().items())
        assert [parameter.requires_grad for parameter in parameters] == needs
        assert all(parameter.grad is None for parameter in parameters)
