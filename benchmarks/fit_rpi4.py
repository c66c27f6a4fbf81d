"""Fit the latency model of profile rpi4 to published training steps and print how well it does.

Run: python benchmarks/fit_rpi4.py

Four rates for each phase (dense, pointwise, depthwise, elementwise), least squares on relative errors. Rates are kept
below the processor's peak (24 GMAC/s, 5.2 GB/s by STREAM), since the published models cannot tell all four apart: a
pointwise convolution comes with a norm and an activation in all of them. The overhead of an operation is assumed, and
linear layers run at the pointwise rate: neither shows at batch 16.
"""

import csv
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

DATA = Path(__file__).parent / "data" / "rpi4_training.csv"
CLASSES = ("dense", "pointwise", "depthwise", "elementwise")
PEAK = np.array([24e9, 24e9, 24e9, 5.2e9])
BATCH = 16
OVERHEAD = 50e-6


def read_rows(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def features(row: dict[str, str]) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Work of the forward and the backward pass by class, and seconds of each, overheads taken off."""
    r = {key: float(value) for key, value in row.items() if key not in ("model", "family")}
    ahead = BATCH * np.array([r["dense"], r["pointwise"] + r["linear"], r["depthwise"], 4 * r["elementwise"]])
    # Twice the MACs, but no input gradient of the stem; a norm's scale and shift each read its gradient again, the
    # scale its input too; SGD reads and writes 12 bytes a parameter.
    back = 2 * ahead - BATCH * np.array([r["stem"], 0, 0, 0])
    back[3] = BATCH * 4 * (r["elementwise"] + 3 * r["norm_elements"]) + 12 * r["params"]
    forward_s = r["forward_s"] - OVERHEAD * r["ops"]
    backward_s = r["full_s"] - r["forward_s"] - OVERHEAD * (r["ops"] + 2 * r["trained_ops"])
    return ahead, back, forward_s, backward_s


def fit(work: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Seconds per unit of work that minimise relative errors, none faster than the peak."""
    scaled = work / seconds[:, None] / PEAK
    return lsq_linear(scaled, np.ones(len(seconds)), bounds=(1.0, np.inf)).x / PEAK


def main() -> None:
    rows = read_rows(DATA)
    ahead, back, forward_s, backward_s = (np.array(column) for column in zip(*map(features, rows), strict=True))
    total = forward_s + backward_s

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        forward, backward = fit(ahead[train], forward_s[train]), fit(back[train], backward_s[train])
        return ahead[test] @ forward + back[test] @ backward

    everything = np.arange(len(rows))
    for phase, work, seconds in (("forward", ahead, forward_s), ("backward", back, backward_s)):
        cost = fit(work, seconds)
        error = np.abs(work @ cost / seconds - 1)
        rates = ", ".join(f"{name} {1e-9 / c:.3g} G/s" for name, c in zip(CLASSES, cost, strict=True))
        print(f"{phase:9} {rates}; fit {error.mean():.1%}, worst {error.max():.1%}")
    families = np.array([row["family"] for row in rows])
    each_model = [everything == n for n in everything]
    # Without the ResNets nothing tells the rate of dense convolutions.
    each_family = [families == family for family in sorted(set(families) - {"resnet"})]
    for name, groups in (("model", each_model), ("family (ResNets aside)", each_family)):
        errors = np.concatenate([np.abs(predict(everything[~g], everything[g]) / total[g] - 1) for g in groups])
        print(f"full step, leave one {name} out: {errors.mean():.1%}, worst {errors.max():.1%}")


if __name__ == "__main__":
    main()
