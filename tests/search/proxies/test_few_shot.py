import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from tinysearch.search.data.images import normalisation_of, to_float
from tinysearch.search.distributed.local import evaluator
from tinysearch.search.problem import Problem
from tinysearch.search.proxies import few_shot as fewshot
from tinysearch.search.proxies import make_proxy, prototypes
from tinysearch.search.proxies.base import Score
from tinysearch.search.proxies.few_shot import FewShotProxy
from tinysearch.search.proxies.prototypes import prototype_head
from tinysearch.search.support import FOLDS
from tinysearch.search.training import Answers, answer
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.split import frozen_boundary
from tinysearch.spaces.optimizers import OPTIMIZERS, SGD
from tinysearch.spaces.policy import LayerUpdate, UpdatePolicy


@pytest.fixture(scope="module")
def proxy(problem: Problem) -> FewShotProxy:
    return few_shot(problem)


@pytest.fixture(scope="module")
def policies(problem: Problem) -> dict[str, UpdatePolicy]:
    return methods.named(problem.trace)


def few_shot(problem: Problem) -> FewShotProxy:
    made = make_proxy(problem)()
    assert isinstance(made, FewShotProxy)
    return made


def said(score: Score) -> Score:
    """What does not depend on the clock."""
    return replace(score, seconds=0.0)


@pytest.mark.parametrize("name", ["last", "mobiletl-1", "mobiletl-2", "tinytl-L", "bias", "full"])
def test_reusing_the_frozen_part_changes_nothing(
    name: str, problem: Problem, policies: dict[str, UpdatePolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same fine-tuning of the whole applied model, from the images on."""
    policy = policies[name]
    make = make_proxy(problem)
    reused = make()(policy)
    monkeypatch.setattr(fewshot, "frozen_boundary", lambda _: None)
    whole = make()(policy)
    assert reused.learning_rate == whole.learning_rate
    assert reused.accuracy == pytest.approx(whole.accuracy, abs=0.0101)  # one answer of a hundred on the fence
    assert reused.loss == pytest.approx(whole.loss, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("backbone", ["attention", "folding"])
def test_reusing_the_frozen_part_of_a_network_of_tokens_changes_nothing(
    backbone: str, optimizer: str, make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters by themselves train behind the place that the frozen part ends at."""
    problem = make_problem(backbone=f"token_nets:{backbone}")
    trace = problem.trace
    late = tuple(layer.name for layer in trace if layer.kind == "parameter" and layer.block == len(trace.blocks) - 1)
    policy = methods.last(trace).model_copy(update={"parameters": late, "method": None})
    policy = policy.with_training(optimizer=optimizer, learning_rate=OPTIMIZERS.load(optimizer).rates[2])
    assert late
    last = methods.last(trace)
    places = [frozen_boundary(apply(problem.backbone, each)) for each in (policy, last)]
    assert None not in places
    assert places[0] != places[1]
    make = make_proxy(problem)
    reused = make()(policy)
    assert said(reused) != said(make()(last.with_training(**policy.training.model_dump())))
    monkeypatch.setattr(fewshot, "frozen_boundary", lambda _: None)
    whole = make()(policy)
    assert reused.accuracy == pytest.approx(whole.accuracy, abs=0.0101)
    assert reused.loss == pytest.approx(whole.loss, rel=1e-4)


def test_the_policies_above_do_and_do_not_have_a_frozen_part(
    problem: Problem, policies: dict[str, UpdatePolicy]
) -> None:
    frozen = {name: frozen_boundary(apply(problem.backbone, policies[name])) is not None for name in policies}
    assert [frozen[name] for name in ("last", "mobiletl-1", "mobiletl-2", "full")] == [True, True, True, False]


def test_a_policy_of_the_first_layer_alone_is_trained_from_the_images_on(problem: Problem, proxy: FewShotProxy) -> None:
    last = methods.last(problem.trace)
    first = last.model_copy(update={"layers": (LayerUpdate(name="stem.0", weight="all"),), "method": None})
    assert frozen_boundary(apply(problem.backbone, first)) is None
    assert said(proxy(first)) != said(proxy(last))


def test_scores_do_not_depend_on_what_was_scored_before(problem: Problem, policies: dict[str, UpdatePolicy]) -> None:
    forwards, backwards = make_proxy(problem)(), make_proxy(problem)()
    chosen = [policies[name] for name in ("last", "full", "mobiletl-2", "tinytl-L+B")]
    there = [said(forwards(policy)) for policy in chosen]
    back = [said(backwards(policy)) for policy in reversed(chosen)]
    assert there == back[::-1]
    assert len(set(there)) == len(there)
    assert there == [said(forwards(policy)) for policy in chosen]


def test_a_policy_is_applied_once_and_its_values_set_back(
    make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training the same model again gives what a new one gives, to the last bit; batch statistics included."""
    problem = make_problem(episodes=2)
    policies = methods.named(problem.trace)
    applied: list[str] = []
    assemble = fewshot.assemble

    def count(backbone: nn.Module, policy: UpdatePolicy, *, seed: int = 0) -> fx.GraphModule:
        applied.append(policy.hash)
        return assemble(backbone, policy, seed=seed)

    monkeypatch.setattr(fewshot, "assemble", count)
    proxy = few_shot(problem)
    proxy(policies["last"])  # finds the rate, once
    for name in ("full", "tinytl-L+B", "norm+last", "last"):
        applied.clear()
        policy = policies[name]
        score = proxy(policy)
        assert applied == [policy.hash]
        used, new = proxy._student(policy), proxy._student(policy)
        for rate in (1e-2, 3e-3):
            proxy._fine_tune(used, 0, rate)
        proxy._fine_tune(used, 1, score.learning_rate)
        proxy._fine_tune(new, 1, score.learning_rate)
        trained = new.model.state_dict()
        assert trained.keys() == used.model.state_dict().keys()
        assert all(torch.equal(value, trained[key]) for key, value in used.model.state_dict().items()), name


def test_dropout_draws_the_same_whatever_was_scored_before(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(backbone="tiny_net:dropping")
    policy = methods.full(problem.trace)
    scores = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        scores.append(said(make_proxy(problem)()(policy)))
    assert scores[0] == scores[1]


def test_a_small_cache_changes_nothing(
    problem: Problem, policies: dict[str, UpdatePolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [policies[name] for name in ("last", "mobiletl-1", "last")]
    large = few_shot(problem)
    expected = [said(large(policy)) for policy in chosen]
    monkeypatch.setattr(fewshot, "CACHE_BYTES", 1)
    small = few_shot(problem)
    assert [said(small(policy)) for policy in chosen] == expected
    assert len(small._cache) == 1
    assert len(large._cache) == 3  # the reference's boundary too


@pytest.mark.slow
def test_worker_processes_say_the_same_in_any_number(problem: Problem, policies: dict[str, UpdatePolicy]) -> None:
    chosen = [policies[name] for name in ("last", "bias", "tinytl-L")]
    make = make_proxy(problem)
    answers = []
    for jobs in (1, 2):
        with evaluator(make, jobs=jobs) as evaluate:
            answers.append({n: said(score) for n, score in evaluate(chosen) if isinstance(score, Score)})
    assert len(answers[0]) == 3
    assert answers[0] == answers[1]


def test_another_seed_is_another_score(make_problem: Callable[..., Problem], policies: dict[str, UpdatePolicy]) -> None:
    scores = [make_proxy(make_problem(seed=seed))()(policies["bias"]) for seed in (0, 1)]
    assert scores[0].loss != scores[1].loss


def test_the_backbone_is_left_as_it_was(problem: Problem, policies: dict[str, UpdatePolicy]) -> None:
    before = {name: tensor.clone() for name, tensor in problem.backbone.state_dict().items()}
    needs = [parameter.requires_grad for parameter in problem.backbone.parameters()]
    proxy = few_shot(problem)
    for name in ("full", "tinytl-L+B", "last"):
        proxy(policies[name])
    problem.support_task()
    after = problem.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert [parameter.requires_grad for parameter in problem.backbone.parameters()] == needs
    assert all(parameter.grad is None for parameter in problem.backbone.parameters())


def test_training_helps_and_the_head_starts_from_prototypes(make_problem: Callable[..., Problem]) -> None:
    """Ten classes: prototypes of random features are far above chance, and full fine-tuning is above them."""
    problem = make_problem(steps=60, shot=40, queries=300)
    named = methods.named(problem.trace)
    proxy = few_shot(problem)
    images = proxy._episodes[0]
    start = answer(problem.support_task().model, images.query).accuracy
    assert start > 0.25
    assert proxy(named["full"]).accuracy > start + 0.1


def test_errors_say_how_sure_a_score_is(
    make_problem: Callable[..., Problem], policies: dict[str, UpdatePolicy]
) -> None:
    one = make_proxy(make_problem())()(policies["last"])
    assert one.accuracy_se == pytest.approx(math.sqrt(one.accuracy * (1 - one.accuracy) / 150))
    problem = make_problem(episodes=3)
    proxy = few_shot(problem)
    several = proxy(policies["last"])
    singles = []
    for number, images in enumerate(proxy._episodes):
        assert len(images.query) == 150
        singles.append(proxy._fine_tune(proxy._student(policies["last"]), number, several.learning_rate).accuracy)
    assert several.accuracy == pytest.approx(np.mean(singles))
    counting = math.sqrt(several.accuracy * (1 - several.accuracy) / 450)
    assert several.accuracy_se == pytest.approx(max(counting, np.std(singles, ddof=1) / math.sqrt(3)))


# --- images ----------------------------------------------------------------------------------------------------------


def pixels(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_support_and_queries_share_no_image(make_problem: Callable[..., Problem]) -> None:
    (images,) = few_shot(make_problem(shot=60, queries=500))._episodes
    support, query = pixels(images.support.values), pixels(images.query.values)
    assert (len(support), len(query)) == (600, 500)
    assert len({*support, *query}) == 1100


def test_of_few_images_all_are_queried_once_and_support_else(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(shot=300, queries=5000)
    episodes = few_shot(problem)._episodes
    assert len(episodes) == FOLDS
    queried = [image for images in episodes for image in pixels(images.query.values)]
    train, size = problem.dataset.train, problem.trace.input_shape[1]
    every = pixels(to_float(train.load(range(len(train)), size), normalisation_of(problem.backbone)))
    assert sorted(queried) == sorted(every)
    for images in episodes:
        assert sorted(pixels(images.support.values) + pixels(images.query.values)) == sorted(every)


def test_what_is_answered_is_kept(problem: Problem, proxy: FewShotProxy, policies: dict[str, UpdatePolicy]) -> None:
    score = proxy(policies["last"])
    assert len(score.answers) == problem.proxy.queries
    assert sum(score.answers) / len(score.answers) == pytest.approx(score.accuracy)


# --- learning rates --------------------------------------------------------------------------------------------------


def test_a_policy_keeps_the_rate_that_it_states(problem: Problem, policies: dict[str, UpdatePolicy]) -> None:
    """So what is scored again is not tuned again, and one that is found to suit is used as it is."""
    free, proxy = few_shot(problem), few_shot(problem)
    found = free(policies["last"])
    rates = policies["last"].training.stepper.rates
    other = next(rate for rate in rates if rate != found.learning_rate)
    assert said(proxy(policies["last"].with_training(learning_rate=found.learning_rate))) == said(found)
    assert proxy(policies["last"].with_training(learning_rate=other)).learning_rate == other
    assert proxy._rates == {}


@pytest.mark.parametrize(("shot", "below"), [(fewshot.MANY // 10 - 1, 1), (fewshot.MANY // 10, 0)])
def test_of_few_images_the_rate_is_sought_from_one_below_the_middle(
    shot: int, below: int, make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At higher ones, policies that train much learn few images by heart, and look worse than those of less."""
    tried: list[float] = []
    fine_tune = FewShotProxy._fine_tune

    def note(proxy: FewShotProxy, student: fewshot._Student, number: int, rate: float) -> Answers:
        tried.append(rate)
        return fine_tune(proxy, student, number, rate)

    monkeypatch.setattr(FewShotProxy, "_fine_tune", note)
    problem = make_problem(shot=shot, steps=1)
    few_shot(problem)(methods.last(problem.trace))
    rates = methods.last(problem.trace).training.stepper.rates
    assert tried[0] == rates[len(rates) // 2 - below]


def test_of_few_images_the_rate_is_found_by_a_policy_that_trains_much(make_problem: Callable[..., Problem]) -> None:
    """Small policies learn few images by heart at no rate, and say nothing of it."""
    problem = make_problem()
    trace, episodes = problem.trace, problem.episodes(1)
    policy = fewshot.reference_of(trace, episodes)
    trained = [layer.block for layer in trace.layers if layer.name in {each.name for each in policy.layers}]
    assert len(trace.blocks) - min(trained) == math.ceil(len(trace.blocks) * 2 / 3)
    assert not policy.norms
    apply(problem.backbone, policy)
    many = make_problem(shot=60).episodes(1)
    assert fewshot.reference_of(trace, many) == methods.mobiletl(trace, min(3, len(trace.blocks)))


def test_an_optimizer_of_one_rate_has_none_below(problem: Problem, request: pytest.FixtureRequest) -> None:
    OPTIMIZERS.add("single", replace(SGD, name="single", rates=(1e-2,)))
    request.addfinalizer(lambda: OPTIMIZERS.remove("single"))
    policy = methods.last(problem.trace).with_training(optimizer="single")
    assert few_shot(problem)(policy).learning_rate == 1e-2


def test_scores_say_which_images_were_asked(
    problem: Problem, proxy: FewShotProxy, policies: dict[str, UpdatePolicy]
) -> None:
    score = proxy(policies["last"])
    assert score.images == tuple(place for each in problem.episodes(1) for place in each.query_indices.tolist())
    assert len(score.images) == len(score.answers)


def test_a_rate_that_diverges_does_not_win_whatever_its_accuracy(
    make_problem: Callable[..., Problem], policies: dict[str, UpdatePolicy], request: pytest.FixtureRequest
) -> None:
    """Logits of NaN all point at class 0, which can be right more often than a trained model is."""
    ladder = (1e-3, 1e25, 1e30, 1e35)
    assert OPTIMIZERS.load("sgd") is SGD
    steep = replace(SGD, name="steep", rates=ladder)
    assert steep.default_rate == 1e30
    OPTIMIZERS.add("steep", steep)
    request.addfinalizer(lambda: OPTIMIZERS.remove("steep"))
    proxy = few_shot(make_problem())
    policy = policies["full"].with_training(optimizer="steep")
    assert not proxy._fine_tune(proxy._student(policy), 0, 1e30).finite
    score = proxy(policy)
    assert proxy._rates == {"steep": 1e-3}
    assert score.learning_rate == 1e-3
    assert math.isfinite(score.loss)


def test_a_policy_that_diverges_at_every_rate_fails_alone(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(backbone="tiny_net:diverging")
    policy = methods.last(problem.trace)
    with pytest.raises(FloatingPointError, match="diverges at every learning rate"):
        make_proxy(problem)()(policy)
    with evaluator(make_proxy(problem), jobs=1) as evaluate:
        reason = f"training diverges at every learning rate down to {policy.training.stepper.rates[0]:g}"
        assert dict(evaluate([policy, policy])) == {0: reason, 1: reason}


# --- prototypes ------------------------------------------------------------------------------------------------------


@st.composite
def labelled_features(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    classes, width = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, draw(st.integers(1, 20)))])
    scale = draw(st.sampled_from([1e-2, 1.0, 50.0]))
    features = rng.normal(0, scale, (len(labels), width))
    queries = rng.normal(0, scale, (30, width))
    return torch.tensor(features), torch.tensor(labels), torch.tensor(queries)


@settings(max_examples=80, deadline=None)
@given(labelled_features())
def test_the_prototype_head_is_nearest_centroid_classification(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, queries = drawn
    weight, bias = prototype_head(features, labels, int(labels.max()) + 1)
    means = torch.stack([features[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
    distances = torch.cdist(queries, means).square()
    logits = queries @ weight.T + bias
    assert torch.equal(logits.argmax(1), distances.argmin(1))
    # Differences of logits are differences of distances in units of the spread within a class.
    within = (features - means[labels]).square().sum(1).mean()
    expected = -prototypes.SHARPNESS * distances / within
    torch.testing.assert_close(logits - logits[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-6)


def test_prototypes_of_features_that_do_not_spread_are_finite() -> None:
    """One image a class: every sample is its prototype."""
    weight, bias = prototype_head(torch.eye(3), torch.arange(3), 3)
    assert bool(torch.cat([weight.flatten(), bias]).isfinite().all())
    logits = torch.eye(3) @ weight.T + bias
    assert logits.argmax(1).tolist() == [0, 1, 2]
    # As sure as a head is elsewhere, whatever the scale of the features: a gradient is left to learn from.
    scaled = prototype_head(1e3 * torch.eye(3), torch.arange(3), 3)
    torch.testing.assert_close(1e3 * torch.eye(3) @ scaled.weight.T + scaled.bias, logits)
    assert 1 < float(logits.max() - logits.min()) < 100


def test_a_class_without_a_sample_stands_at_the_mean_of_all() -> None:
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    weight, bias = prototype_head(features, torch.tensor([0, 0, 2]), 3)
    mean = features.mean(0)
    torch.testing.assert_close(weight[1] / weight[0], mean / features[:2].mean(0))
    assert bool(bias.isfinite().all())
