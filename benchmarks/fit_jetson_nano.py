"""Fit the forward rates of profile jetson-nano to published fp16 inference and print how well they do.

Run: python benchmarks/fit_jetson_nano.py

Rates are kept below the GPU's peak (236 GMAC/s in fp16, 25.6 GB/s). The profile takes half of them for fp32.
"""

import csv
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

DATA = Path(__file__).parent / "data" / "jetson_nano_inference.csv"
CLASSES = ("dense", "pointwise", "elementwise")
PEAK = np.array([236e9, 236e9, 25.6e9])
OVERHEAD = 0.11e-3


def main() -> None:
    lines = [line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    work = np.array([[float(r["dense"]), float(r["pointwise"]), 2 * float(r["elementwise"])] for r in rows])
    launches = OVERHEAD * np.array([float(r["ops"]) for r in rows])
    seconds = 1e-3 * np.array([float(r["ms"]) for r in rows])
    left = seconds - launches
    cost = lsq_linear(work / left[:, None] / PEAK, np.ones(len(rows)), bounds=(1.0, np.inf)).x / PEAK
    for name, value in zip(CLASSES, cost, strict=True):
        print(f"{name:12} {1e-9 / value:6.1f} G/s in fp16")
    error = np.abs((work @ cost + launches) / seconds - 1)
    print(f"fit {error.mean():.1%}, worst {error.max():.1%}")


if __name__ == "__main__":
    main()
