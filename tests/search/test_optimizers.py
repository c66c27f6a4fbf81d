import pytest
import torch
from torch import nn

from tinysearch.search.optimizers import DEFAULT_RATE, RATES, make_optimizer
from tinysearch.spaces.policy import Training


def test_every_optimizer_of_a_policy_has_rates_from_low_to_high_and_starts_in_the_middle() -> None:
    assert set(RATES) == set(Training.model_json_schema()["properties"]["optimizer"]["enum"])
    for name, rates in RATES.items():
        assert list(rates) == sorted(set(rates))
        assert rates.index(DEFAULT_RATE[name]) == len(rates) // 2


@pytest.mark.parametrize(("name", "state"), [("sgd", 0), ("sgd-momentum", 1), ("adam", 2)])
def test_each_keeps_the_state_that_its_name_says_and_takes_the_rate(name: str, state: int) -> None:
    """Values of state that each trained value carries decide the memory that a device needs."""
    parameter = nn.Parameter(torch.ones(5))
    optimizer = make_optimizer(name, [parameter], 0.25)
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
    other = make_optimizer(name, [still], 0.25)
    (still * 0).sum().backward()
    other.step()
    assert still.tolist() == [1, 1, 1]
