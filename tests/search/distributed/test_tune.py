"""Ray Tune itself, on a cluster of several nodes on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_proxies import fair, make, unmakeable
from searches import OPTIONS, SMALL, TRIALS, Watcher, read_until, search, start

from tinysearch.core.errors import InputError, MissingDataError, TinySearchError
from tinysearch.results.front import Front
from tinysearch.results.records import TrialRecord
from tinysearch.results.rundir import TUNE, RunDirectory
from tinysearch.search.distributed.choice import Place
from tinysearch.search.problem import Problem

pytestmark = [pytest.mark.slow, pytest.mark.timed]
ray = pytest.importorskip("ray", reason="Ray is an extra of its own: pip install 'ray[tune]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head, where one policy can be scored at once; tests add nodes."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """What is found without Ray."""
    return search(tmp_path_factory.mktemp("alone") / "run")


def assert_equal(out: Path, finished: RunDirectory) -> None:
    assert (out / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    trials = RunDirectory.load(out).trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert [(t.hash, t.accuracy, t.loss) for t in trials] == [(t.hash, t.accuracy, t.loss) for t in finished.trials()]


def kill_a_worker(cluster: Any) -> None:
    """End one of the cluster's processes that score, as a kernel short of memory does."""
    raylets = {process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]}
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    own = [line for line in listed if int(line.split()[1]) in raylets]
    scoring = [int(line.split()[0]) for line in own if re.search(r" ray::(_Scoring|\w*Trainable)", line)]
    assert scoring, own
    os.kill(scoring[0], signal.SIGKILL)


class Wrecker(Watcher):
    """Takes a node away after the third trial, and a process after the sixth."""

    def __init__(self, cluster: Any, node: Any) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        super().trial(record, front)
        if len(self.trials) == 3:
            self._cluster.remove_node(self._node, allow_graceful=False)
        if len(self.trials) == 6:
            kill_a_worker(self._cluster)


def test_a_lost_node_and_a_killed_worker_change_nothing(cluster: Any, finished: RunDirectory, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    watcher = Wrecker(cluster, node)
    out = search(tmp_path / "run", jobs=None, ray=cluster.address, observer=watcher).path
    assert len(watcher.trials) == TRIALS, "a trial was told twice, or not at all"
    assert_equal(out, finished)
    assert list((out / TUNE).rglob("events.out.tfevents*")), "nothing for TensorBoard"


def test_a_driver_that_was_killed_is_resumed_by_the_same_command(
    cluster: Any, finished: RunDirectory, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(out, tmp_path, "--ray", cluster.address)
    read_until(process, r"^\[5/")
    process.kill()
    process.communicate()
    kept = len(RunDirectory.load(out).trials())
    assert 5 <= kept < TRIALS
    process = start(out, tmp_path, "--ray", cluster.address)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert f"resuming after {kept} trials" in told
    assert_equal(out, finished)


def test_what_is_wrong_with_a_policy_or_a_proxy_is_told(cluster: Any, problem: Problem, tmp_path: Path) -> None:
    policies = [problem.on_device(problem.space.decode(row)) for row in problem.space.sample(4, 5)]
    habits = dict(zip([policy.hash for policy in policies], ["raise", "die once", "hang"], strict=False))
    place = Place.of(None, 4, ray=cluster.address, timeout=5.0)
    with place.workers(tmp_path / "ray") as workers:
        with workers(make(habits, tmp_path), 4) as evaluate:
            found = dict(evaluate(policies))
        gone = make({policies[0].hash: "give up"}, tmp_path)
        with pytest.raises(MissingDataError, match="the images are gone"), workers(gone, 4) as evaluate:
            list(evaluate(policies))
        with (
            pytest.raises(TinySearchError, match="the proxy cannot be made: OSError: the disk is gone"),
            workers(unmakeable, 4) as evaluate,
        ):
            list(evaluate(policies))
    assert found == {
        0: "KeyError: 'no such thing\\nand more'",
        1: fair(policies[1]),
        2: "took longer than 5 s",
        3: fair(policies[3]),
    }


def test_ctrl_c_ends_a_run_by_ray(tmp_path: Path) -> None:
    process = start(tmp_path / "run", tmp_path, "--ray", trials=5000)
    read_until(process, r"^\[3/")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert time.monotonic() - began < 60
    assert told.rstrip().endswith("the same command goes on")


def test_sigterm_ends_a_run_by_ray_politely(tmp_path: Path) -> None:
    process = start(tmp_path / "run", tmp_path, "--ray", trials=5000)
    read_until(process, r"^\[3/")
    process.terminate()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert told.rstrip().endswith("the same command goes on")


def test_what_no_node_has_is_refused(cluster: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="cpus_per_trial is 64, and no node has more than 1"),
        Place.of(None, 4, ray=cluster.address, cpus=64.0).workers(tmp_path),
    ):
        raise AssertionError("there are not so many")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://127.0.0.1:1", "the address of a Ray client"),
        ("127.0.0.1:1", "no cluster at 127.0.0.1:1"),
        ("127.0.0.1:x", "no cluster at 127.0.0.1:x"),
    ],
)
def test_an_address_without_a_cluster_is_refused_in_a_line(address: str, said: str, tmp_path: Path) -> None:
    # In a process of its own, where no cluster is in use yet.
    done = subprocess.run(
        [sys.executable, "-m", "tinysearch", "run", "--backbone", str(OPTIONS["backbone"]), "--weights", "none"]
        + [f"--{name}={value}" for name, value in SMALL.items()]
        + ["--out", str(tmp_path / "run"), "--ray", address],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == InputError.exit_code, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
