"""Members of a run are verified and trained in Python, without the command line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tinysearch as ts
from tinysearch.core.errors import InputError
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.data import load_dataset
from tinysearch.search.finetune import finetune
from tinysearch.search.problem import Problem
from tinysearch.search.run import run
from tinysearch.search.verify import verify
from tinysearch.spaces.delta import read_delta
from tinysearch.spaces.delta.weights import merge_file
from tinysearch.spaces.policy import UpdatePolicy

FEW = {"steps": 2, "test_images": 50}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    proxy = {"shot": 5, "queries": 150, "steps": 3}
    out = tmp_path_factory.mktemp("members") / "run"
    return run(out=out, backbone="tiny_net:build", weights="none", trials=8, jobs=1, proxy=proxy)


def test_every_member_is_verified(finished: RunDirectory) -> None:
    result = verify(finished)
    members = finished.front.members
    assert [each.member for each in result.members] == list(members)
    assert result.wrong == ()
    assert [row[:4] for row in result.listing().rows] == [
        (member.hash, member.method, member.saved_bytes, member.saved_bytes) for member in members
    ]
    with pytest.raises(InputError, match=rf"choose one of the {len(members)} by policy"):
        result.tensors()


def test_what_is_kept_unlike_predicted_is_wrong(finished: RunDirectory) -> None:
    result = verify(str(finished.path), "best", batch=2)
    (each,) = result.members
    assert each.member == finished.front.best()
    assert result.batch == 2
    assert sum(row[3] for row in result.tensors().rows) == each.measurement.saved_bytes
    measured = replace(each.measurement, tensors=each.measurement.tensors[1:])
    assert replace(result, members=(replace(each, measurement=measured),)).wrong != ()


@pytest.mark.parametrize("batch", [0, 10**6])
def test_a_batch_that_the_data_have_not_is_refused(finished: RunDirectory, batch: int) -> None:
    with pytest.raises(InputError, match=f"batch {batch}: it must be from 1 to the 1297 training images"):
        verify(finished, "best", batch=batch)


def test_a_member_trains_as_its_policy_does_on_the_runs_network(finished: RunDirectory) -> None:
    result = ts.finetune(finished, "best", **FEW)
    assert result.member == finished.front.best()
    problem = Problem.of_run(finished)
    policy = UpdatePolicy.load(finished.policy_path(result.member))
    by_hand = finetune(problem.backbone, policy, problem.dataset, **FEW)
    assert (result.accuracy, result.loss, result.policy) == (by_hand.accuracy, by_hand.loss, policy)
    assert by_hand.member is None
    assert result.network_bytes == sum(t.nbytes for t in problem.backbone.state_dict().values())


def test_what_changed_is_kept_and_merged(finished: RunDirectory, tmp_path: Path) -> None:
    delta, out = tmp_path / "d.safetensors", tmp_path / "m.safetensors"
    member = next(m for m in finished.front.members if m.method not in ("tinytl-L", "tinytl-L+B"))
    result = finetune(finished.path, member.hash, delta=delta, **FEW)
    assert read_delta(delta).policy == result.policy
    merged = merge_file(delta, out, backbone="tiny_net:build", weights="none")
    assert (merged.path, merged.classes, merged.plain) == (out, 10, not result.policy.lite_residuals)
    head = result.model.get_submodule(result.policy.head)
    assert torch.equal(load_file(out)[f"{result.policy.head}.weight"], head.weight)  # type: ignore[arg-type]


def test_what_does_not_belong_together_is_refused(finished: RunDirectory, problem: Problem, tmp_path: Path) -> None:
    policy = UpdatePolicy.load(finished.policy_path(finished.front.best()))
    digits = load_dataset("digits")
    wrong = [
        (lambda: finetune(problem.backbone, policy), "give the policy itself and a data set"),
        (lambda: finetune(problem.backbone, "best", digits), "give the policy itself and a data set"),
        (lambda: finetune(problem.backbone, policy, digits, weights="none"), "weights is for members of a run"),
        (lambda: finetune(finished, policy), "name a member of its front"),
        (lambda: finetune(finished, "best", digits), "leave out the data set"),
        (lambda: finetune(finished, "zzz"), "0 members"),
        (lambda: finetune(finished, delta=tmp_path / "d.pth"), "let its name end in .safetensors"),
        (lambda: finetune(finished, delta=tmp_path / "no" / "d.safetensors"), "there is no folder"),
    ]
    for call, said in wrong:
        with pytest.raises(InputError, match=said):
            call()
