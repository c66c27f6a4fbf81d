"""Training: the rate's course, clipping, batches, and going back to the start."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tinysearch.search.training import Answers, Features, Recipe, Start, answer, fit
from tinysearch.spaces.optimizers import ADAM, SGD


@given(st.integers(1, 300))
def test_the_rate_climbs_to_its_height_and_falls_to_nearly_nothing(steps: int) -> None:
    recipe = Recipe(steps, 8, 0.1)
    shares = [recipe.share(step) for step in range(steps)]
    top = shares.index(max(shares))
    assert max(shares) == pytest.approx(1)
    assert all(0 < share <= 1 for share in shares)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert top == max(1, round(0.2 * steps)) - 1
    assert steps < 20 or shares[-1] < 0.05


def examples(count: int = 50) -> Features:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count, 4, generator=generator)
    return Features(values, (values[:, 0] > 0).long())


def test_it_learns_and_leaves_the_model_in_evaluation_mode() -> None:
    model, data = nn.Linear(4, 2), examples()
    before = answer(model.eval(), data)
    fit(model, data, ADAM, Recipe(60, 16, 0.05))
    after = answer(model, data)
    assert not model.training
    assert after.loss < before.loss
    assert after.accuracy > 0.9


def test_a_step_moves_no_further_than_the_clipped_gradient() -> None:
    model, data = nn.Linear(4, 2), Features(1e6 * torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
    start = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
    fit(model, data, SGD, Recipe(1, 8, 0.1))
    moved = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]) - start
    assert float(moved.norm()) == pytest.approx(0.1, rel=1e-4)


def test_the_same_seed_trains_the_same_whatever_was_drawn_before() -> None:
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
        nn.init.zeros_(model[1].weight)
        nn.init.zeros_(model[1].bias)
        fit(model, examples(), ADAM, Recipe(5, 16, 0.05, seed=seed))
        results.append(model[1].weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_set_smaller_than_a_batch_is_taken_whole() -> None:
    seen = []

    class Watched(Features):
        def varied(self, picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            seen.append(sorted(picked.tolist()))
            return self.values[picked]

    data = examples(5)
    fit(nn.Linear(4, 2), Watched(data.values, data.labels), ADAM, Recipe(3, 32, 1e-3))
    assert seen == [[0, 1, 2, 3, 4]] * 3


def test_every_example_is_seen_once_before_any_is_seen_again() -> None:
    seen: list[int] = []

    class Watched(Features):
        def varied(self, picked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            seen.extend(picked.tolist())
            return self.values[picked]

    data = examples(12)
    fit(nn.Linear(4, 2), Watched(data.values, data.labels), ADAM, Recipe(6, 4, 1e-3))
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))


def test_the_start_comes_back_statistics_included() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start = Start(model)
    fit(model, examples(), ADAM, Recipe(3, 16, 0.05))
    assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])
    start.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_answers_tell_their_error_and_whether_training_diverged() -> None:
    right = torch.arange(100) < 80
    answers = Answers(right, torch.ones(100))
    assert answers.accuracy == 0.8
    assert answers.accuracy_se == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
    assert answers.finite
    assert not Answers(right, torch.full((100,), math.nan)).finite
    assert Answers(torch.ones(4, dtype=torch.bool), torch.zeros(4)).accuracy_se > 0
    both = Answers.of_all([answers, Answers(~right, torch.zeros(100))])
    assert (both.accuracy, both.loss) == (0.5, 0.5)
