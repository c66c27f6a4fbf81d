"""Policies a second through the cost models on one core, against one at a time.

Run: python benchmarks/cost_speed.py
"""

import time

import numpy as np
import torch

from tinysearch.devices.costs import cost_table
from tinysearch.devices.profile import list_devices, load_device
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace

COUNT, ALONE = 16_384, 32


def main() -> None:
    torch.set_num_threads(1)
    space = UpdateSpace(trace(MobileNetV2(0.35, 10), (3, 96, 96)))
    rows = space.sample(COUNT, seed=0)
    for name in list_devices():
        profile = load_device(name)
        table = space.table(rows)
        start = time.process_time()
        together = cost_table(table, profile)
        vectorised = COUNT / (time.process_time() - start)
        start = time.process_time()
        apart = [cost_table(table[n : n + 1], profile) for n in range(ALONE)]
        single = ALONE / (time.process_time() - start)
        for field in ("saved_bytes", "peak_bytes", "flash_bytes", "macs", "latency_s", "energy_j"):
            one = np.concatenate([getattr(costs, field) for costs in apart])
            np.testing.assert_allclose(getattr(together, field)[:ALONE], one, rtol=1e-12)
        ratio = vectorised / single
        print(f"{name:12} {vectorised:8.0f} policies/s, one at a time {single:5.0f}: {ratio:.0f} times; answers agree")


if __name__ == "__main__":
    main()
