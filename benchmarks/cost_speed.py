"""Policies a second through the cost models on one core, all objectives together, against one at a time.

Run: OMP_NUM_THREADS=1 python benchmarks/cost_speed.py

`rows` starts from encoded policies, as a search does (`ts.estimate_many`); `tables` from policies whose tables are made
already, in the order of drawing. Processor time, of all threads together, best of three; the bytes and
multiply-accumulates of the first policies are checked to be those of each alone, and seconds and joules nearly.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from tinysearch.devices.costs import CHUNK, Costs, cost_rows, cost_table
from tinysearch.devices.profile import load_device
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace

COUNT, ALONE = 8 * CHUNK, 32
DEVICES = ("cortex-m7-int8", "jetson-nano", "rpi4")
Answer = TypeVar("Answer")


def timed(call: Callable[[], Answer], repeats: int = 3) -> tuple[Answer, float]:
    """What a call gives, and its least processor time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        answer = call()
        times.append(time.process_time() - start)
    return answer, min(times)


def check(together: Costs, apart: list[Costs]) -> None:
    """The same answers, many at once or one at a time."""
    for field in ("saved_bytes", "peak_bytes", "flash_bytes", "macs"):
        one = np.concatenate([getattr(costs, field) for costs in apart])
        np.testing.assert_array_equal(getattr(together, field)[: len(one)], one)
    for field in ("latency_s", "energy_j"):
        one = np.concatenate([getattr(costs, field) for costs in apart])
        np.testing.assert_allclose(getattr(together, field)[: len(one)], one, rtol=1e-13)


def main() -> None:
    """Print the rates of every bundled profile."""
    torch.set_num_threads(1)
    space = UpdateSpace(trace(MobileNetV2(0.35, 10), (3, 96, 96)))
    rows = space.sample(COUNT, seed=0)
    table, seconds = timed(lambda: space.table(rows[:CHUNK]))
    print(f"MobileNetV2-w0.35 at 96 px, {COUNT:,} policies of {len(space)} genes")
    print(f"tables made alone: {CHUNK / seconds:8,.0f} policies/s")
    for name in DEVICES:
        profile = load_device(name)
        together, by_rows = timed(lambda profile=profile: cost_rows(space, rows, profile))
        _, by_tables = timed(lambda profile=profile: cost_table(table, profile))
        apart, alone = timed(
            lambda profile=profile: [cost_rows(space, row, profile) for row in rows[:ALONE]], repeats=1
        )
        check(together, apart)
        print(
            f"{name:14} rows {COUNT / by_rows:8,.0f} policies/s, tables {CHUNK / by_tables:8,.0f}, one at a time "
            f"{ALONE / alone:4.0f}: {COUNT / by_rows * alone / ALONE:4.0f} times; answers agree"
        )


if __name__ == "__main__":
    main()
