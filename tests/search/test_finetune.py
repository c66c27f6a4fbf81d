from typing import Any

import pytest
import torch

from tinysearch.core.errors import InputError
from tinysearch.search.finetune import AUGMENTATIONS, finetune
from tinysearch.search.problem import Problem
from tinysearch.spaces import methods

FEW = {"steps": 4, "train_images": 60, "test_images": 80}


def test_only_what_the_policy_says_is_trained(problem: Problem) -> None:
    policy = methods.bias(problem.trace)
    before = {name: tensor.clone() for name, tensor in problem.backbone.state_dict().items()}
    result = finetune(problem.backbone, policy, problem.dataset, **FEW)
    changed = {name for name, value in result.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{norm.name}.bias" for norm in policy.norms} | {"head.weight", "head.bias"}
    after = problem.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_same_seed_same_result_and_another_seed_another(problem: Problem) -> None:
    policy = methods.tinytl(problem.trace)
    losses = [finetune(problem.backbone, policy, problem.dataset, seed=seed, **FEW).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_more_steps_fit_better_and_the_error_is_that_of_counting(problem: Problem) -> None:
    policy = methods.full(problem.trace)
    sizes = {"train_images": 600, "test_images": 200, "learning_rate": 1e-2}
    short, long = (finetune(problem.backbone, policy, problem.dataset, steps=steps, **sizes) for steps in (2, 60))
    assert long.loss < short.loss
    assert long.accuracy > short.accuracy > 0.05
    assert long.accuracy_se == pytest.approx((long.accuracy * (1 - long.accuracy) / 200) ** 0.5)


def test_the_rate_is_found_from_the_policys_own_on_unless_it_is_stated(problem: Problem) -> None:
    """Too few images to tell rates apart: none leads away from where the race begins."""
    policy = methods.last(problem.trace)
    tuned = policy.with_training(learning_rate=0.011)
    stated = finetune(problem.backbone, policy, problem.dataset, learning_rate=0.011, **FEW)
    own, default = (finetune(problem.backbone, each, problem.dataset, **FEW) for each in (tuned, policy))
    assert (stated.learning_rate, own.learning_rate) == (0.011, 0.01)
    assert default.learning_rate == policy.training.stepper.default_rate
    assert stated.loss != own.loss != default.loss


def test_images_are_varied_as_asked_for(problem: Problem) -> None:
    policy = methods.last(problem.trace)
    losses = {
        name: finetune(problem.backbone, policy, problem.dataset, learning_rate=0.01, augmentation=name, **FEW).loss
        for name in AUGMENTATIONS
    }
    assert len(set(losses.values())) == 3
    with pytest.raises(InputError, match="augmentation is 'mixup': there are none, shift"):
        finetune(problem.backbone, policy, problem.dataset, augmentation="mixup", **FEW)


def test_it_begins_at_the_prototypes(problem: Problem) -> None:
    """One step at a rate of nearly nothing leaves the accuracy of prototypes, far above chance."""
    tuned = finetune(problem.backbone, methods.last(problem.trace), problem.dataset, steps=1, learning_rate=1e-9)
    assert tuned.accuracy > 0.25


@pytest.mark.parametrize("count", [1, 10, 25])
def test_so_few_images_that_classes_or_the_validation_are_missing(count: int, problem: Problem) -> None:
    result = finetune(problem.backbone, methods.last(problem.trace), problem.dataset, steps=2, train_images=count)
    assert 0 <= result.accuracy <= 1


def test_a_batch_larger_than_the_data_takes_all_of_it(problem: Problem) -> None:
    policy = methods.last(problem.trace)
    losses = [
        finetune(problem.backbone, policy, problem.dataset, steps=3, batch=batch, train_images=20, test_images=50).loss
        for batch in (20, 500)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"train_images": 0}, "train_images is 0"),
        ({"test_images": -5}, "test_images is -5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_wrong_numbers_are_named(wrong: dict[str, Any], said: str, problem: Problem) -> None:
    with pytest.raises(InputError, match=said):
        finetune(problem.backbone, methods.last(problem.trace), problem.dataset, **wrong)


def test_the_policys_own_steps_are_made_unless_others_are_asked_for(problem: Problem) -> None:
    few = {"train_images": 60, "test_images": 80}
    policy = methods.last(problem.trace).with_training(steps=3)
    own = finetune(problem.backbone, policy, problem.dataset, **few)
    asked = finetune(problem.backbone, policy, problem.dataset, steps=5, **few)
    assert (own.steps, asked.steps) == (3, 5)
    assert (
        own.loss == finetune(problem.backbone, policy.with_training(steps=None), problem.dataset, steps=3, **few).loss
    )
    assert own.loss != asked.loss


def test_where_nothing_can_be_held_out_the_policys_own_rate_is_kept(problem: Problem) -> None:
    policy = methods.last(problem.trace).with_training(learning_rate=0.017)
    result = finetune(problem.backbone, policy, problem.dataset, steps=2, train_images=1, test_images=20)
    assert result.learning_rate == 0.017
