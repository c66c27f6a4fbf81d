"""A request loaded, and loaded again from a run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tinysearch.core.errors import ConflictError, InputError
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.network import load_network
from tinysearch.search.problem import Problem
from tinysearch.search.run import run
from tinysearch.search.support import SUPPORT_SEEN
from tinysearch.spaces.backbones.choice import find_weights, named_backbone


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    proxy = {"shot": 5, "queries": 150, "steps": 3}
    out = tmp_path_factory.mktemp("problem") / "run"
    return run(out=out, backbone="tiny_net:build", weights="none", trials=2, jobs=1, proxy=proxy, max_latency="500ms")


def test_a_run_is_loaded_again_as_it_was_asked_for(finished: RunDirectory) -> None:
    problem = Problem.of_run(finished)
    assert problem.identity() == finished.request
    assert problem.limits.latency_s == 0.5


def test_other_weights_are_refused_unless_only_costs_are_asked_for(finished: RunDirectory, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    content = json.loads((copy / "request.json").read_text())
    content["request"] |= {"backbone_sha256": "0" * 64, "weights": "moved.safetensors"}
    (copy / "request.json").write_text(json.dumps(content))
    other = RunDirectory.load(copy)
    with pytest.raises(ConflictError, match=r"these are not the weights that .* give those by weights=FILE") as caught:
        Problem.of_run(other, weights="none")
    assert caught.value.options == ("weights=FILE",)
    ours = Problem.of_run(finished)
    assert Problem.of_run(other, for_costs=True).trace == ours.trace


def test_weights_are_those_stated_or_published() -> None:
    assert find_weights("mobilenetv2-w0.35") == "bundled"
    assert find_weights("mobilenetv3-small") == "imagenet"
    assert find_weights("mobilenetv3-small", for_costs=True) is None
    assert find_weights("mobilenetv2-w0.35", for_costs=True) == "bundled"
    assert find_weights("mobilenetv3-small", "mine.pth", for_costs=True) == "mine.pth"
    assert find_weights("mobilenetv2-w0.35", "none") is None
    with pytest.raises(InputError, match=r"no weights are published for proxylessnas-w0\.3: give weights=FILE"):
        find_weights("proxylessnas-w0.3")


def test_code_runs_only_if_the_user_names_it() -> None:
    assert named_backbone(None, "mobilenetv2-w0.35", "x") == "mobilenetv2-w0.35"
    assert named_backbone("a:b", "c:d", "x") == "a:b"
    with pytest.raises(InputError, match=r"x is of a backbone of someone's own.*backbone=c:d"):
        named_backbone(None, "c:d", "x")


def test_a_network_has_the_size_of_its_weights_up_to_a_bound() -> None:
    sizes = {
        ("mobilenetv2-w0.35", None): 48,  # the bundled weights' own
        ("mobilenetv3-small", None): 96,
        ("mobilenetv3-small", 64): 64,
    }
    for (name, asked), size in sizes.items():
        _, trace = load_network(name, classes=3, input_size=asked, for_costs=True)
        assert trace.input_shape == (3, size, size)
        assert trace.layers[trace.head].out_channels == 3


def test_episodes_are_drawn_once_and_the_first_are_the_same(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    (first,) = problem.episodes(1)
    three = problem.episodes(3)
    assert problem.episodes(3)[2] is three[2]
    assert problem.episodes(1)[0] is three[0]
    assert torch.equal(first.support_images, three[0].support_images)
    assert not torch.equal(three[0].support_images, three[1].support_images)


def test_methods_see_support_images_of_the_training_split(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(shot=40)
    task = problem.support_task()
    (episode,) = problem.episodes(1)
    assert len(task.images) == len(task.labels) == SUPPORT_SEEN < len(episode.support_labels)
    assert torch.equal(task.labels, episode.support_labels[:SUPPORT_SEEN])
    assert not task.model.training
    with torch.no_grad():
        right = (task.model(task.images).argmax(1) == task.labels).float().mean()
    assert right > 0.25  # prototypes, not the new head of ten random classes


def test_another_round_has_other_episodes_and_another_seed(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem()
    rounds = [replace(problem, round=number) for number in (0, 1, 2)]
    assert len({each.seed for each in rounds}) == 3
    assert all(0 <= each.seed < 2**32 for each in rounds)
    drawn = [each.episodes(2) for each in rounds]
    asked = {tuple(episode.query_indices.tolist()) for episodes in drawn for episode in episodes}
    assert len(asked) == sum(len(episodes) for episodes in drawn) == 6
    # However many are asked for, the first is the same.
    assert rounds[1].episodes(1)[0] is drawn[1][0]
    again = replace(make_problem(), round=1)
    assert again.seed == rounds[1].seed
    assert (again.episodes(1)[0].query_indices == drawn[1][0].query_indices).all()


def test_a_small_split_is_asked_for_the_same_images_in_every_round(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(shot=1000, queries=2000)
    asked = [
        sorted(int(place) for episode in replace(problem, round=number).episodes(1) for place in episode.query_indices)
        for number in (0, 1)
    ]
    assert asked[0] == asked[1]
    assert len(asked[0]) == len(problem.dataset.train)


def test_how_often_finalists_are_scored_again_is_no_part_of_what_a_run_is(make_problem: Callable[..., Problem]) -> None:
    assert make_problem(rescore=0).identity() == make_problem(rescore=5).identity()
