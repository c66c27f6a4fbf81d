"""What every optimizer must do."""

import pytest
import torch
from torch import nn

from ..spaces.optimizers import OPTIMIZERS, Optimizer


class OptimizerSuite:
    """Tests of an optimizer; the fixture `optimizer` gives it."""

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        raise NotImplementedError("give the optimizer by a fixture of this name")

    def test_rates_ascend_and_the_middle_one_is_the_default(self, optimizer: Optimizer) -> None:
        """A search for a policy's rate begins in the middle and goes both ways."""
        assert list(optimizer.rates) == sorted(set(optimizer.rates))
        assert all(rate > 0 for rate in optimizer.rates)
        assert optimizer.rates.index(optimizer.default_rate) == len(optimizer.rates) // 2
        assert optimizer.summary

    def test_it_keeps_the_state_that_it_declares(self, optimizer: Optimizer) -> None:
        """Values of state that each trained value carries decide the memory that a device needs."""
        parameter, made = _stepped(optimizer)
        kept = [value for value in made.state[parameter].values() if isinstance(value, torch.Tensor)]
        assert sum(value.numel() for value in kept if value.shape == parameter.shape) == optimizer.state * 5
        # At least gradient in, weight in and out, and each value of state in and out.
        assert optimizer.traffic >= 3 + 2 * optimizer.state

    def test_it_goes_against_the_gradient_by_its_rate(self, optimizer: Optimizer) -> None:
        """Twice the rate goes further, in the same direction, and the same again at every call."""
        near, far, again = (_stepped(optimizer, rate)[0] for rate in (0.01, 0.02, 0.02))
        assert bool((near < 1).all())
        assert bool((far < near).all())
        assert torch.equal(far, again)

    def test_nothing_moves_without_a_gradient(self, optimizer: Optimizer) -> None:
        """There is no weight decay."""
        still = nn.Parameter(torch.ones(3))
        made = optimizer.make([still], lr=0.25)
        (still * 0).sum().backward()  # type: ignore[no-untyped-call]
        made.step()
        assert still.tolist() == [1, 1, 1]

    def test_it_has_a_name_that_policies_can_state(self, optimizer: Optimizer) -> None:
        """Its name is the one that it is registered by."""
        assert OPTIMIZERS.load(optimizer.name) == optimizer


def _stepped(optimizer: Optimizer, rate: float = 0.25) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    """Five ones after two steps with a gradient of one."""
    parameter = nn.Parameter(torch.ones(5))
    made = optimizer.make([parameter], lr=rate)
    for _ in range(2):
        made.zero_grad()
        parameter.sum().backward()  # type: ignore[no-untyped-call]
        made.step()
    return parameter, made
