"""Runs of several networks: one front and one budget, resumed, killed, shown, verified and trained."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tinysearch as ts
from tinysearch.core.errors import ConflictError, InputError, TinySearchError
from tinysearch.results.front import Front
from tinysearch.results.records import TrialRecord
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.accounts import count_front
from tinysearch.search.finetune import finetune
from tinysearch.search.problem import Problem
from tinysearch.search.run import run
from tinysearch.search.verify import verify
from tinysearch.spaces.policy import UpdatePolicy

TRIALS = 11
SMALL = {"shot": 20, "queries": 80, "steps": 8}
#: What `search` below and the command line are both asked.
OPTIONS = {"backbone": "tiny_net:build,tiny_net:one_conv", "weights": "none", "input_size": "16,20", "trials": TRIALS}
NETWORKS = ["tiny_net%3Abuild-16", "tiny_net%3Abuild-20", "tiny_net%3Aone_conv-16", "tiny_net%3Aone_conv-20"]


def search(out: Path, **changes: Any) -> RunDirectory:
    return run(out=out, **({"jobs": 1, "proxy": SMALL} | OPTIONS | changes))


class Watcher:
    """Remembers what it was told, and may stop the run as Ctrl-C does."""

    def __init__(self, until: int = 1000) -> None:
        self.networks: list[str] = []
        self.done = 0
        self.trials: list[TrialRecord] = []
        self.front: Front | None = None
        self.reasons: list[str] = []
        self._until = until

    def prepared(self, problem: Problem, run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        self.networks.append(run.path.name)
        self.done += len(done)

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        self.trials.append(record)
        self.front = front
        if len(self.trials) == self._until:
            raise KeyboardInterrupt

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, watcher: Watcher) -> RunDirectory:
    return search(tmp_path_factory.mktemp("several") / "run", observer=watcher)


def test_each_network_is_a_run_and_the_best_of_all_are_one_front(finished: RunDirectory) -> None:
    assert [network.path.name for network in finished.networks] == NETWORKS
    assert sorted(path.name for path in finished.path.iterdir()) == [
        ".lock",
        "environment.json",
        "front.json",
        "networks",
        "pareto.png",
        "policies",
        "request.json",
    ]
    front, trials = finished.front, {trial.number: trial for trial in finished.trials()}
    assert front.run.trials == len(trials) == TRIALS == sum(len(network.trials()) for network in finished.networks)
    assert front.run.backbone == "tiny_net:build, tiny_net:one_conv"
    for member in front.members:
        policy = UpdatePolicy.load(finished.policy_path(member))
        assert (policy.backbone, policy.input_shape) == (member.backbone, (3, member.input_size, member.input_size))
        own = finished.of(member)
        assert own.path.name == f"{member.backbone}-{member.input_size}".replace(":", "%3A")
        assert trials[member.trial].hash == member.hash
        # It is a member of its network's own front too, and believed to be as accurate.
        (twin,) = (each for each in own.front.members if each.hash == member.hash)
        assert (twin.accuracy, twin.accuracy_se, twin.gain) == (member.accuracy, member.accuracy_se, member.gain)


def test_all_fronts_are_measured_from_one_point(finished: RunDirectory) -> None:
    fronts = [network.front for network in finished.networks]
    assert all(front.reference_point == finished.front.reference_point for front in fronts)
    assert finished.front.hypervolume >= max(front.hypervolume for front in fronts)


def test_the_head_of_each_network_comes_first(finished: RunDirectory, watcher: Watcher) -> None:
    assert watcher.networks == NETWORKS
    assert [trial.number for trial in watcher.trials[:8]] == list(range(8))
    assert [trial.method for trial in watcher.trials] == ["last"] * 4 + [None] * (TRIALS - 4)
    assert watcher.front == finished.front
    assert watcher.reasons == [f"{TRIALS} policies were tried"]


def test_the_same_request_finds_its_run_finished_in_whatever_order_it_is_made(finished: RunDirectory) -> None:
    before = (finished.path / "front.json").read_bytes()
    again = Watcher()
    search(finished.path, observer=again, backbone=["tiny_net:one_conv", "tiny_net:build"], input_size=[20, 16])
    assert (again.done, again.trials) == (TRIALS, [])
    assert (finished.path / "front.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 9}, "seed was 0, now 9"),
        ({"input_size": "16,24"}, r"networks\.tiny_net%3Abuild-24"),
        ({"backbone": "tiny_net:build", "input_size": 16}, "backbone was not stated"),
    ],
)
def test_another_request_is_refused(changes: dict[str, Any], said: str, finished: RunDirectory) -> None:
    with pytest.raises(ConflictError, match=said):
        search(finished.path, **changes)


def test_one_network_of_it_cannot_be_taken_further_alone(finished: RunDirectory) -> None:
    """Its trials were chosen with an eye on the others'."""
    with pytest.raises(ConflictError, match="one_of_several was true, now not stated"):
        search(finished.networks[0].path, backbone="tiny_net:build", input_size=16)


@pytest.mark.parametrize("moment", [2, 9])
def test_a_stopped_run_resumes_to_the_same_front(moment: int, finished: RunDirectory, tmp_path: Path) -> None:
    """In the middle of the heads, and of a round."""
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "run", observer=Watcher(moment))
    stopped = RunDirectory.load(tmp_path / "run")
    assert len(stopped.trials()) == stopped.front.run.trials == moment
    resumed = search(tmp_path / "run")
    assert (resumed.path / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    for own, other in zip(resumed.networks, finished.networks, strict=True):
        assert (own.path / "front.json").read_bytes() == (other.path / "front.json").read_bytes()


def test_more_trials_may_be_asked_of_a_finished_run(finished: RunDirectory, tmp_path: Path) -> None:
    """Ten end it in the middle of a round."""
    search(tmp_path / "run", trials=10)
    assert search(tmp_path / "run").front == finished.front


@pytest.mark.slow
@pytest.mark.timed
def test_a_killed_run_resumes_to_the_same_front(finished: RunDirectory, tmp_path: Path) -> None:
    """With processes that score, and on the command line."""
    config = tmp_path / "options.yaml"
    config.write_text(json.dumps(OPTIONS | SMALL))
    command = [sys.executable, "-m", "tinysearch", "run", "-c", str(config), "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if re.match(r"\[9/11\] tiny_net:\w+ (16|20), ", line):
            break
    process.kill()
    process.wait()
    process.stderr.close()
    done = subprocess.run([*command, "--jobs", "1"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming after" in done.stderr
    assert (tmp_path / "run" / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    assert "networks/" in done.stdout


# --- hard cases ------------------------------------------------------------------------------------------------------


def test_lists_of_one_are_the_run_that_it_always_was(tmp_path: Path) -> None:
    listed = search(tmp_path / "listed", backbone=["tiny_net:build"], input_size="16", trials=3)
    plain = search(tmp_path / "plain", backbone="tiny_net:build", input_size=16, trials=3)
    assert listed.networks == ()
    assert (listed.path / "front.json").read_bytes() == (plain.path / "front.json").read_bytes()
    assert listed.request == plain.request
    assert "networks" not in listed.request


def test_a_network_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="left out: nothing fits 300 KiB .* at 48x48"):
        found = search(tmp_path / "run", backbone="tiny_net:build", input_size="16,48", max_memory="300KiB", trials=3)
    assert [network.path.name for network in found.networks] == NETWORKS[:1]
    assert found.front.warnings[0].startswith("left out: nothing fits 300 KiB")
    assert {(member.backbone, member.input_size) for member in found.front.members} == {("tiny_net:build", 16)}


def test_a_network_that_fails_leaves_the_front_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail(monkeypatch, "tiny_net:one_conv")
    found = search(tmp_path / "run")
    assert {member.backbone for member in found.front.members} == {"tiny_net:build"}
    assert "tiny_net%3Aone_conv-16 could not be trained: no such luck" in found.front.warnings
    states = [[trial.state for trial in network.trials()] for network in found.networks]
    assert states[2:] == [["failed"] * 2, ["failed"] * 2]
    assert found.front.run.trials == TRIALS
    again = search(tmp_path / "run")
    assert again.front == found.front


def test_a_network_that_the_screen_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverging-16: the network's answers are not finite"):
        search(tmp_path / "run", backbone="tiny_net:build,tiny_net:diverging", input_size=16)


def test_where_all_networks_fail_the_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail(monkeypatch, "tiny_net")
    for _ in range(2):  # and again when it is resumed
        with pytest.raises(TinySearchError, match="none of 8 policies could be trained; the first: no such luck"):
            search(tmp_path / "run")
    assert not (tmp_path / "run" / "front.json").exists()


def _fail(monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    """Have the proxy fail for policies of a backbone."""
    from tinysearch.search.proxies.several import SeveralProxies

    ask = SeveralProxies.__call__

    def call(proxy: SeveralProxies, policy: UpdatePolicy) -> Any:
        if policy.backbone.startswith(backbone):
            raise RuntimeError("no such luck")
        return ask(proxy, policy)

    monkeypatch.setattr(SeveralProxies, "__call__", call)


# --- what is done with it --------------------------------------------------------------------------------------------


def test_members_of_all_networks_are_verified(finished: RunDirectory) -> None:
    result = verify(finished)
    assert [each.member for each in result.members] == list(finished.front.members)
    assert result.wrong == ()
    listing = result.listing()
    assert listing.columns[:3] == ("policy", "network", "method")
    assert [row[1] for row in listing.rows] == [member.network for member in finished.front.members]


def test_a_member_is_trained_with_its_own_network(finished: RunDirectory) -> None:
    for member in (finished.front.best(), finished.front.members[0]):
        tuned = ts.finetune(finished, member.hash, steps=2, test_images=50)
        assert tuned.member == member
        assert (tuned.policy.backbone, tuned.policy.input_shape[1]) == (member.backbone, member.input_size)
    assert finished.front.recommended is not None
    recommended = finetune(finished.path, "recommended", steps=2, test_images=50, weights="none")
    assert recommended.member == finished.front.recommended


def test_weights_of_a_network_that_moved_are_told_by_backbone(finished: RunDirectory) -> None:
    result = verify(finished, "all", weights="none")
    assert not result.wrong
    member = next(member for member in finished.front.members if member.backbone == "tiny_net:build")
    with pytest.raises(ConflictError, match="these are not the weights"):
        finetune(finished, member.hash, weights=_other_weights(finished))


def test_weights_of_all_networks_are_those_of_one_member_too(finished: RunDirectory) -> None:
    both = "tiny_net:build=none,tiny_net:one_conv=none"
    assert not verify(finished, "best", weights=both).wrong
    assert finetune(finished, "best", steps=1, test_images=20, weights=both).member == finished.front.best()
    with pytest.raises(InputError, match=r"which backbone is 'x\.pth' for"):
        verify(finished, "best", weights="x.pth")


def _other_weights(finished: RunDirectory) -> str:
    from safetensors.torch import save_file

    from tinysearch.spaces.backbones import load_backbone

    values = load_backbone("tiny_net:build", num_classes=10).state_dict()
    file = finished.path.parent / "other.safetensors"
    save_file({name: value + 0.5 if value.is_floating_point() else value for name, value in values.items()}, file)
    return str(file)


def test_another_accounting_counts_all_networks(finished: RunDirectory) -> None:
    listing = count_front(finished, "eager")
    assert [row[0] for row in listing.rows] == [member.hash[:8] for member in finished.front.members]
    assert "network" in listing.columns
    assert all(member.hash[:8] in listing.render("table") for member in finished.front.members)


def test_the_accounting_of_a_run_of_one_is_printed(finished: RunDirectory) -> None:
    """It could not be, for the accuracies, which are text in that listing."""
    assert "eager" in count_front(finished.networks[0], "eager").render("table")


def test_a_run_of_several_is_no_problem_of_one(finished: RunDirectory) -> None:
    with pytest.raises(InputError, match="is a run of 4 networks: take one of its networks"):
        Problem.of_run(finished)
    assert Problem.of_run(finished.networks[1]).trace.input_shape == (3, 20, 20)
