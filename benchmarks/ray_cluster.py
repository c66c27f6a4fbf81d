"""Searches by Ray on a cluster of three nodes, two of which are killed, and the driver once: against one process.

python benchmarks/ray_cluster.py [--trials 40] [--overhead 200]

Prints whether trials and front are equal. Then what Ray adds to a trial: the time of many policies whose scoring takes
none, beside the same in processes of this machine.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from ray.cluster_utils import Cluster

import tinysearch as ts
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.distributed.choice import Place
from tinysearch.search.proxies.base import Proxy, Score
from tinysearch.spaces.policy import UpdatePolicy

STORE = 100 * 2**20
SMALL = ["--input-size", "32", "--shot", "5", "--queries", "50", "--steps", "5", "--sampler", "nsga2", "--seed", "3"]


class Instant(Proxy):
    """Scores at once: what is timed is all else."""

    def __call__(self, policy: UpdatePolicy) -> Score:
        return Score(0.5, 0.1, 1.0, 1e-3, 0.0)


def command(out: Path, trials: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "tinysearch", "run", "--trials", str(trials), "--out", str(out), *SMALL, *more]


def told(out: Path) -> int:
    return len(ts.load_run(out).trials()) if (out / "study.db").exists() else 0


def survive(folder: Path, trials: int) -> None:
    """Kill two of three nodes at a third and two thirds of a search, and the driver at a half."""
    alone = folder / "alone"
    subprocess.run(command(alone, trials, "--jobs", "1"), check=True, capture_output=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
    out = folder / "ray"
    driver = None
    events = [
        (trials // 3, partial(cluster.remove_node, nodes[0], allow_graceful=False)),
        (trials // 2, None),
        (2 * trials // 3, partial(cluster.remove_node, nodes[1], allow_graceful=False)),
    ]
    for most, event in [*events, (trials, lambda: None)]:
        while driver is None or (driver.poll() is None and told(out) < most):
            if driver is None:
                log = (folder / "log").open("a")
                driver = subprocess.Popen(command(out, trials, "--ray", cluster.address), stdout=log, stderr=log)
            time.sleep(0.2)
        if event is None:
            driver.kill()
            driver.wait()
            print(f"driver killed after {told(out)} trials")
            driver = None
        elif most < trials:
            event()
            print(f"node killed after {told(out)} trials")
    assert driver is not None
    driver.wait()
    cluster.shutdown()
    kept, found = (RunDirectory.load(path).trials() for path in (alone, out))
    same = [(t.number, t.hash, t.accuracy) for t in kept] == [(t.number, t.hash, t.accuracy) for t in found]
    fronts = (alone / "front.json").read_bytes() == (out / "front.json").read_bytes()
    print(f"{len(found)} of {trials} trials, equal: {same}; front equal byte for byte: {fronts}")


def overhead(folder: Path, count: int) -> None:
    """Time of policies that take none to score."""
    from ray_cluster import Instant  # by a name under which other processes find it

    trace = ts.trace(ts.load_backbone("mobilenetv2-w0.35", num_classes=10, input_size=32), (3, 32, 32))
    space = ts.UpdateSpace(trace)
    policies = [space.decode(row) for row in space.sample(count, seed=0)]
    for name, place in (("processes", Place(jobs=2)), ("Ray", Place(jobs=2, ray="local"))):
        began = time.perf_counter()
        with place.workers(folder / "tune") as workers, workers(Instant, 4) as evaluate:
            list(evaluate(policies[:4]))
            ready = time.perf_counter()
            for first in range(4, count, 4):
                list(evaluate(policies[first : first + 4]))
            done = time.perf_counter()
        ended = time.perf_counter()
        each = 1000 * (done - ready) / (count - 4)
        print(f"{name:10} {ready - began:5.1f} s to begin, {each:6.1f} ms a trial, {ended - done:4.1f} s to end")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="of the search that is disturbed; 0 for none")
    parser.add_argument("--overhead", type=int, default=200, help="policies that are timed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.trials:
            survive(Path(folder), options.trials)
        overhead(Path(folder), options.overhead)


if __name__ == "__main__":
    main()
