"""A run is done again from its request, and what differs is said."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from searches import search

from tinysearch.core.errors import ConflictError, InputError
from tinysearch.results.comparison import Comparison
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.provenance import inputs_of
from tinysearch.search.rerun import rerun

FEW = {"shot": 5, "queries": 40, "steps": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    torch.set_num_threads(1)
    return search(tmp_path_factory.mktemp("rerun") / "run", sampler="auto", trials=7, rescore=1, proxy=FEW)


def test_a_run_done_again_is_equal(finished: RunDirectory) -> None:
    again = rerun(finished, jobs=1)
    assert again.run.path == finished.path.with_name("run-rerun")
    assert again.comparison.equal, again.comparison.lines()
    assert again.comparison.lines()[-1] == "equal"
    assert (again.comparison.largest, again.comparison.other, again.comparison.only) == ({}, (), ((), ()))
    assert (again.run.path / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    assert [each.trial for each in again.run.rescores()] == [each.trial for each in finished.rescores()]


def test_a_run_of_several_networks_done_again_is_equal(tmp_path: Path) -> None:
    first = search(tmp_path / "run", sampler="auto", backbone="tiny_net:build", input_size="16,24", trials=5, proxy=FEW)
    again = rerun(first.path, tmp_path / "again", jobs=1)
    assert again.comparison.equal, again.comparison.lines()
    assert len(again.run.networks) == 2


def test_what_differs_is_said(finished: RunDirectory, tmp_path: Path) -> None:
    """Another run in its place, on another machine."""
    other = search(tmp_path / "other", sampler="auto", trials=6, rescore=0, proxy=FEW, seed=4)
    noted = json.loads((other.path / "environment.json").read_text())
    noted["sessions"][-1]["processor"] = "abacus"
    (other.path / "environment.json").write_text(json.dumps(noted))
    comparison = Comparison.of(finished, RunDirectory.load(other.path))
    text = "\n".join(comparison.lines())
    assert not comparison.equal
    assert re.search(r"^trials: 7 before, 6 now, others: ", text)
    assert re.search(r"scores of the same policies: accuracy by up to 0\.\d+", text)
    assert "request: seed was 3, now 4" in text
    assert 'now "abacus"' in text
    assert text.endswith("\nnot equal")
    assert "started" not in text


def test_a_run_without_a_front_or_into_itself_is_refused(finished: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the run itself: choose another out"):
        rerun(finished, finished.path)
    copy = Path(shutil.copytree(finished.path, tmp_path / "copy"))
    (copy / "front.json").unlink()
    with pytest.raises(InputError, match=r"no front\.json yet"):
        rerun(copy, tmp_path / "again")


def test_another_run_in_the_way_is_left_alone(finished: RunDirectory, tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "other", {"a": 1}).close()
    with pytest.raises(ConflictError, match="choose another out"):
        rerun(finished, tmp_path / "other", jobs=1)


def test_a_session_notes_what_it_was_loaded_from(finished: RunDirectory, make_problem) -> None:  # type: ignore[no-untyped-def]
    noted = finished.sessions[-1]["inputs"]
    assert noted["seed"] == 3
    assert noted["weights_file_sha256"] is None
    assert noted["backbone_sha256"] == finished.request["backbone_sha256"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", noted[f"{name}_sha256"]) for name in ("train", "test", "device"))
    bundled = inputs_of(make_problem(backbone="mobilenetv2-w0.35", weights=None, input_size=32))
    assert re.fullmatch(r"[0-9a-f]{64}", bundled["weights_file_sha256"])
    assert bundled["train_sha256"] == noted["train_sha256"]
