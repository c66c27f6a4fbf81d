"""How time and memory grow with layers, classes, images and trials.

Run from the repository's root: python benchmarks/scale.py [layers] [classes] [images] [trials] [--most-trials N]

Every size is a process of its own, whose seconds leave out the start of Python and imports; the peak is that of the
whole process, of which imports are some 300 MB. Seconds are the processor's, one thread, so that they hold on a machine
that others use. The exponent is that by which they grow from the line before: 1 is in proportion.

`trials` measures the bookkeeping of a search, so what scores its policies is a stub, which makes up an accuracy from
what trains. All else is real: the sampler, repairs and costs, both records on the disk, the front after every trial.
Its lines are of one run: seconds are of the trials since the line before.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

#: Sizes that are tried of each.
SIZES = {"layers": (25, 50, 100, 200, 400), "classes": (10, 100, 1000), "images": (1_000, 10_000, 100_000)}
#: Trials from one line to the next.
WINDOW = 1_000
#: What scores policies but in `trials`: as little training as there can be.
LEAST = {"shot": 1, "queries": 100, "steps": 1}

Laps = dict[str, float]


def layers(count: int, folder: Path) -> Laps:
    """A network of so many convolutions, traced; a thousand of its policies, priced; all of them, screened."""
    import tinysearch as ts
    from tinysearch.search.problem import Problem
    from tinysearch.search.request import Request
    from tinysearch.search.samplers import make_sampler

    request = Request.make(backbone=_deep(count), weights="none", input_size=16, proxy=LEAST)
    watch = Stopwatch()
    problem = Problem.of(request)
    watch.lap("load, trace")
    ts.estimate_many(problem.space, problem.space.sample(1000), problem.device)
    watch.lap("price 1,000")
    make_sampler("auto", problem.space, 0, warm_up=0).prepare(problem)
    watch.lap("screen")
    return watch.laps


def _deep(count: int) -> str:
    """A network of so many convolutions, as a backbone's name that holds in this process."""
    import torch
    from torch import Tensor, nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
            nn.init.normal_(self.conv.weight, std=0.02)  # so that hundreds add up to something finite

        def forward(self, x: Tensor) -> Tensor:
            return x + self.act(self.norm(self.conv(x)))

    class Deep(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 2, 1)
            self.blocks = nn.Sequential(*(Residual() for _ in range(count - 2)))
            self.head = nn.Linear(16, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
            return logits

    torch.set_num_threads(1)
    sys.modules["deep"] = module = ModuleType("deep")
    module.build = Deep  # type: ignore[attr-defined]
    return "deep:build"


def classes(count: int, folder: Path) -> Laps:
    """A data set of so many classes, 20 images each, loaded, and a policy scored on it."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), 20)
    file = folder / "data.npz"
    pixels = random.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    np.savez(file, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    return _scored(file, queries=max(100, count))


def images(count: int, folder: Path) -> Laps:
    """Ten class folders of so many small files together, loaded, and a policy scored on it."""
    from PIL import Image

    for label in range(10):
        own = folder / "data" / f"class-{label}"
        own.mkdir(parents=True)
        first = own / "0.png"
        Image.fromarray(np.full((8, 8, 3), 25 * label, np.uint8)).save(first)
        for number in range(1, count // 10):
            (own / f"{number}.png").hardlink_to(first)
    return _scored(folder / "data", queries=100)


def _scored(dataset: Path, queries: int) -> Laps:
    from tinysearch.search.distributed.local import evaluator
    from tinysearch.search.problem import Problem
    from tinysearch.search.provenance import inputs_of
    from tinysearch.search.proxies import make_proxy
    from tinysearch.search.request import Request
    from tinysearch.spaces import methods

    request = Request.make(dataset=str(dataset), input_size=32, proxy=LEAST | {"queries": queries})
    watch = Stopwatch()
    problem = Problem.of(request)
    watch.lap("load, trace")
    problem.identity(), inputs_of(problem)
    watch.lap("checksums")
    with evaluator(make_proxy(problem), 1) as evaluate:
        list(evaluate([problem.on_device(methods.last(problem.trace))]))
    watch.lap("score one")
    return watch.laps


class Stopwatch:
    """Seconds of what was done, by name."""

    def __init__(self) -> None:
        self.laps: Laps = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        """Take down the seconds since the last lap."""
        now = time.process_time()
        self.laps[name], self._last = now - self._last, now


def trials(most: int, folder: Path, sampler: str) -> None:
    """One search of so many trials, and what reading it takes; prints a line for every `WINDOW`."""
    import tinysearch as ts
    from tinysearch.results.front import Front
    from tinysearch.results.records import TrialRecord
    from tinysearch.search.proxies import PROXIES, Proxy, ProxyKind, Score
    from tinysearch.spaces.policy import UpdatePolicy

    asked = tuple(range(1300))

    class MadeUp(Proxy):
        def __call__(self, policy: UpdatePolicy) -> Score:
            random = np.random.default_rng(int(policy.hash[:8], 16))
            accuracy = 0.5 + 0.4 * (1 - math.exp(-len(policy.layers) / 10)) + random.normal(0, 0.02)
            right = random.random(len(asked)) < accuracy
            share = float(right.mean())
            return Score(share, 0.01, 1 - share, 1e-3, 0.0, right.astype(np.uint8).tobytes(), asked)

    PROXIES.add("made-up", ProxyKind("made-up", "a stub", lambda *_: MadeUp))

    class Clock:
        def __init__(self) -> None:
            self.last = time.process_time()

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

        def trial(self, record: TrialRecord, front: Front | None) -> None:
            if (record.number + 1) % WINDOW == 0:
                now = time.process_time()
                seconds, self.last = now - self.last, now
                size = sum(file.stat().st_size for file in (folder / "run").iterdir()) / 1e6
                members = 0 if front is None else len(front.members)
                print(
                    f"{record.number + 1:8d} {seconds:9.1f} {1e3 * seconds / WINDOW:9.1f} {_peak_mb():9.0f} "
                    f"{members:9d} {size:9.0f}",
                    flush=True,
                )

    print(f"\ntrials ({sampler})\n    size   seconds  ms/trial   peak MB   members   disk MB")
    out = folder / "run"
    network = {"backbone": _deep(12), "weights": "none", "input_size": 16}
    ts.run(**network, sampler=sampler, proxy="made-up", trials=most, rescore=0, jobs=1, out=out, observer=Clock())


def reading(out: Path) -> None:
    """What it takes to read a run, as commands and in Python."""
    run = "import tinysearch as ts; run = ts.load_run({!r}); "
    python = [sys.executable, "-c"]
    for what, command in {
        "tinysearch show, with the start of Python": [sys.executable, "-m", "tinysearch", "show", str(out)],
        "tinysearch --help, likewise": [sys.executable, "-m", "tinysearch", "--help"],
        "run.trials(), likewise": [*python, run.format(str(out)) + "run.trials()"],
    }.items():
        best = [math.inf, math.inf]
        for _ in range(3):
            start, used = time.perf_counter(), _used_by_children()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            passed = time.perf_counter() - start, _used_by_children() - used
            best = [min(pair) for pair in zip(best, passed, strict=True)]
        print(f"{what}: {best[0]:.2f} s, of which {best[1]:.2f} s of the processor")
    script = f"import sys; sys.argv[1:] = ['show', {str(out)!r}]\nfrom tinysearch.cli import main\nmain()\n"
    script += "import sys; print('HEAVY', [name for name in ('torch', 'optuna', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([*python, script], check=True, capture_output=True, text=True)
    print(f"imported by show: {done.stdout.splitlines()[-1]}")


def _used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _table(name: str, sizes: Sequence[int]) -> None:
    """Print a line for every size."""
    before: tuple[int, float] | None = None
    for size in sizes:
        command = [sys.executable, __file__, name, "--one", str(size)]
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        laps, total = done["laps"], sum(done["laps"].values())
        if before is None:
            print(f"\n{name}\n    size   seconds   peak MB  exponent  " + "".join(f"{lap:>14}" for lap in laps))
        grown = "" if before is None else f"{math.log(total / before[1]) / math.log(size / before[0]):.2f}"
        print(
            f"{size:8d} {total:9.2f} {done['peak_mb']:9.0f} {grown:>9}  "
            + "".join(f"{seconds:14.2f}" for seconds in laps.values()),
            flush=True,
        )
        before = size, total


def main() -> None:
    """Print the tables of what is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="layers, classes, images or trials; all")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a size, in a process of its own
    parser.add_argument("--most-trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="random", help="of trials")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.one:
            measure = {"layers": layers, "classes": classes, "images": images}[asked.names[0]]
            laps = measure(asked.one, Path(folder))
            print(json.dumps({"laps": laps, "peak_mb": _peak_mb()}))
            return
        for name in asked.names or (*SIZES, "trials"):
            if name == "trials":
                trials(asked.most_trials, Path(folder), asked.sampler)
                reading(Path(folder) / "run")
            else:
                _table(name, SIZES[name])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
