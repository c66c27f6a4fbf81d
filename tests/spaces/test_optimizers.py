"""Optimizers: the built-in ones pass the suite, and step as their formulas say."""

import pytest
import torch
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.spaces.optimizers import OPTIMIZERS, Optimizer
from tinysearch.spaces.policy import Training
from tinysearch.testing import OptimizerSuite


class TestBuiltIn(OptimizerSuite):
    @pytest.fixture(params=["adam", "sgd", "sgd-momentum"])
    def optimizer(self, request: pytest.FixtureRequest) -> Optimizer:
        return OPTIMIZERS.load(request.param)


def test_a_policy_has_an_optimizer_that_there_is() -> None:
    assert Training(optimizer="sgd").optimizer == "sgd"
    with pytest.raises(ValueError, match="no optimizer named 'rmsprop': there are adam, sgd, sgd-momentum"):
        Training(optimizer="rmsprop")
    with pytest.raises(InputError, match="no optimizer named 'rmsprop'"):
        OPTIMIZERS.load("rmsprop")


@pytest.mark.parametrize(("name", "moved"), [("sgd", 0.5), ("sgd-momentum", 0.25 + 0.25 * 1.9), ("adam", 0.5)])
def test_two_steps_go_as_far_as_the_formula_says(name: str, moved: float) -> None:
    parameter = nn.Parameter(torch.ones(5))
    optimizer = OPTIMIZERS.load(name).make([parameter], lr=0.25)
    for _ in range(2):
        optimizer.zero_grad()
        parameter.sum().backward()
        optimizer.step()
    assert parameter.tolist() == pytest.approx([1 - moved] * 5, rel=1e-5)
