import pytest
import torch
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.spaces.optimizers import OPTIMIZERS
from tinysearch.spaces.policy import Training


def test_every_optimizer_has_rates_from_low_to_high_and_starts_in_the_middle() -> None:
    assert {"adam", "sgd", "sgd-momentum"} <= set(OPTIMIZERS)
    for name in OPTIMIZERS:
        optimizer = OPTIMIZERS.load(name)
        assert optimizer.name == name
        assert list(optimizer.rates) == sorted(set(optimizer.rates))
        assert optimizer.rates.index(optimizer.default_rate) == len(optimizer.rates) // 2
        assert Training(optimizer=name).optimizer == name


def test_a_policy_has_an_optimizer_that_there_is() -> None:
    with pytest.raises(ValueError, match="no optimizer named 'rmsprop': there are adam, sgd, sgd-momentum"):
        Training(optimizer="rmsprop")
    with pytest.raises(InputError, match="no optimizer named 'rmsprop'"):
        OPTIMIZERS.load("rmsprop")


@pytest.mark.parametrize(("name", "state"), [("sgd", 0), ("sgd-momentum", 1), ("adam", 2)])
def test_each_keeps_the_state_that_its_name_says_and_takes_the_rate(name: str, state: int) -> None:
    """Values of state that each trained value carries decide the memory that a device needs."""
    parameter = nn.Parameter(torch.ones(5))
    optimizer = OPTIMIZERS.load(name).make([parameter], lr=0.25)
    assert OPTIMIZERS.load(name).state == state
    for _ in range(2):
        optimizer.zero_grad()
        parameter.sum().backward()
        optimizer.step()
    kept = [v for v in optimizer.state[parameter].values() if isinstance(v, torch.Tensor) and v.shape == (5,)]
    assert len(kept) == state
    moved = {"sgd": 0.5, "sgd-momentum": 0.25 + 0.25 * 1.9, "adam": 0.5}[name]
    assert parameter.tolist() == pytest.approx([1 - moved] * 5, rel=1e-5)
    # Without a gradient nothing moves: there is no weight decay.
    still = nn.Parameter(torch.ones(3))
    other = OPTIMIZERS.load(name).make([still], lr=0.25)
    (still * 0).sum().backward()
    other.step()
    assert still.tolist() == [1, 1, 1]
