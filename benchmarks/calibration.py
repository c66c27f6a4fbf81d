"""How well a fresh calibration predicts training steps and memory of networks that it has not seen.

Run: python benchmarks/calibration.py [--load PROFILE] [--policies 40] [--rounds 6] [--threads N]

Calibrates this machine (or loads a profile), then measures random policies of MobileNetV2 at widths and resolutions
that the calibration did not measure: whole steps, come back to in several rounds, and what a process of its own grows
by. A step's time is the median of all rounds; the odd rounds against the even ones show how well that repeats. Beside
the calibrated model stands the naive one, seconds in proportion to multiply-accumulates, fitted to the very steps that
it is judged on.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

import tinysearch as ts
from tinysearch.devices.calibrate.fit import fit_error
from tinysearch.devices.calibrate.jobs import CLASSES, GRID, Effort, make_jobs
from tinysearch.devices.calibrate.machine import calibrate, refuse_busy
from tinysearch.devices.calibrate.standalone import Step, keep_freed_memory, physical_cores, resident_growth
from tinysearch.devices.profile.kernels import FitError
from tinysearch.devices.working_set import working_set_bytes
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable

WIDTHS, SIZES = (0.25, 1.0), (64, 208)
Case = tuple[str, int, UpdatePolicy]


def unseen(count: int, seed: int) -> list[Case]:
    """Policies of networks whose resolutions lie between those that a calibration measures; two of each network."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        width = float(np.exp(rng.uniform(*np.log(WIDTHS))))
        size = int(rng.integers(SIZES[0] // GRID, SIZES[1] // GRID)) * GRID + GRID // 2
        name = f"mobilenetv2-w{width:.3f}"
        space = ts.UpdateSpace(ts.trace(ts.load_backbone(name, num_classes=CLASSES), (3, size, size)))
        cases += [(name, size, space.decode(row)) for row in space.sample(2, int(rng.integers(2**31)))]
    return cases[:count]


def make_step(case: Case, batch: int, optimizer: str, threads: int) -> Step:
    name, size, policy = case
    torch.set_num_threads(threads)
    model = ts.apply(ts.load_backbone(name, num_classes=CLASSES), policy).train()
    return Step(model, [batch, 3, size, size], CLASSES, optimizer, "cpu")


def timed(step: Step, repeats: int = 3) -> list[float]:
    """Seconds of some repeats, after one that is not timed."""
    step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    step.rest()
    return seconds


def report(what: str, error: FitError) -> None:
    print(
        f"{what:28} MAPE {error.mape:5.1f} %, within 10 %: {error.within_10:5.1f} %, "
        f"within 20 %: {error.within_20:5.1f} %, tau {error.tau}, bias {error.bias:+.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", type=Path, help="a profile that was calibrated before")
    parser.add_argument("--out", type=Path, default=Path("calibrated.yaml"), help="where a new one is written")
    parser.add_argument("--policies", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=6, help="times that each policy is come back to")
    parser.add_argument("--memory", type=int, default=16, help="policies of which the memory is measured")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--seconds", type=float, default=Effort().seconds)
    parser.add_argument("--force", action="store_true", help="on a busy machine too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)  # until all processes are forked: threads do not survive that
    if not options.force:
        refuse_busy()
    if options.load is None:
        start = time.perf_counter()
        jobs = partial(make_jobs, threads=options.threads, effort=Effort(seconds=options.seconds))
        with Progress() as bar:
            task = bar.add_task("calibrating", total=1.0)
            calibrate(jobs, options.out, force=True, progress=lambda share: bar.update(task, completed=share))
        print(f"calibrated in {time.perf_counter() - start:.0f} s: {options.out}")
    device = ts.load_device(options.load or options.out)
    print(f"{device.description}\n{device.runtime}")
    own = device.latency.error
    if own is not None and own.within_10 is not None:
        report(f"its own, {own.points} steps held out", own)
        print(f"{'':28} repeatability {own.repeatability} %")

    cases = unseen(options.policies, options.seed)
    batch, optimizer = device.batch, device.optimizer
    grown, expected = [], []
    for case in cases[:: max(1, len(cases) // max(1, options.memory))][: options.memory]:
        found = resident_growth(partial(make_step, case, batch, optimizer, options.threads))
        if "error" in found:
            print(f"memory of {case[0]} at {case[1]} px: {found['error']}")
            continue
        trace = ts.trace(ts.load_backbone(case[0], num_classes=CLASSES), (3, case[1], case[1]))
        growth = working_set_bytes(UpdateTable.of(trace, [case[2]]), device, batch, optimizer)
        if growth is not None:
            grown.append(float(found["growth"]))
            expected.append(float(growth[0]))

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    steps = [make_step(case, batch, optimizer, options.threads) for case in cases]
    rounds: list[list[list[float]]] = []
    with Progress() as bar:
        task = bar.add_task("measuring", total=options.rounds * len(cases))
        for _ in range(options.rounds):
            rounds.append([])
            for step in steps:
                rounds[-1].append(timed(step))
                bar.advance(task)
    costs = [
        ts.estimate(ts.trace(ts.load_backbone(n, num_classes=CLASSES), (3, size, size)), policy, device)
        for n, size, policy in cases
    ]
    predicted, macs = (np.array([getattr(cost, name) for cost in costs], float) for name in ("latency_s", "macs"))
    seconds = np.array(rounds)  # (rounds, policies, repeats)
    first, second, truth = (np.median(part, (0, 2)) for part in (seconds[::2], seconds[1::2], seconds))
    again = 100 * float(np.mean(np.abs(first - second) / truth))
    judge = partial(fit_error, of="unseen", source="benchmark", repeatability=again)
    report("calibrated", judge(predicted, truth))
    report("calibrated, against fastest", judge(predicted, seconds.min((0, 2))))
    report("naive: MACs, fitted to these", judge(macs / np.median(macs / truth), truth))
    report("the measurement itself", judge(second, first))
    print(f"{'':28} repeatability {again:.1f} %")
    if grown:
        report(f"growth of {len(grown)} processes", judge(np.array(expected), np.array(grown)))
    worst = np.argsort(-np.abs(predicted / truth - 1))[:5]
    for number in worst:
        name, size, policy = cases[number]
        print(f"worst: {name} at {size} px, {policy.hash}: {predicted[number]:.4f} s, measured {truth[number]:.4f} s")


if __name__ == "__main__":
    main()
