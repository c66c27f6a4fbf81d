"""Trials and fronts to write, read and draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinysearch.results.front import Front
from tinysearch.results.records import RunInfo, TrialRecord

GENES = {"block": 3, "ratio": 8, "mask": 2}
REFERENCE = {"accuracy": 0.1, "peak_bytes": 2e7, "latency_s": 0.6}
IDEAL = {"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0}


@pytest.fixture(scope="session")
def genes() -> dict[str, int]:
    return dict(GENES)


@pytest.fixture(scope="session")
def trial() -> Callable[..., TrialRecord]:
    def make(number: int, **changes: Any) -> TrialRecord:
        fields: dict[str, Any] = {
            "number": number,
            "hash": f"{number:016x}",
            "policy": f'{{"number": {number}}}',
            "row": (number % 3, number % 8, number % 2),
            "state": "complete",
            "accuracy": 0.5 + 0.004 * number,
            "accuracy_se": 0.01,
            "loss": 1.25,
            "learning_rate": 1e-3,
            "peak_bytes": 40_000 * (number + 1),
            "saved_bytes": 10_000,
            "flash_bytes": 800_000,
            "latency_s": 0.1,
            "energy_j": 0.3,
            "macs": 10**8,
            "seconds": 2.5,
            "started": "2026-01-02T03:04:05+00:00",
        }
        return TrialRecord(**fields | changes)

    return make


@pytest.fixture
def front() -> Callable[..., Front]:
    def make(trials: list[TrialRecord], **changes: Any) -> Front:
        run: dict[str, Any] = {
            "device": "rpi4",
            "dataset": "digits",
            "backbone": "mobilenetv2-w0.35",
            "batch": 8,
            "proxy": "few-shot episodes",
            "seed": 0,
            "trials": 0,
        }
        return Front.from_trials(trials, RunInfo(**run | changes), REFERENCE, IDEAL)

    return make


@pytest.fixture
def cloud(trial: Callable[..., TrialRecord]) -> Callable[..., list[TrialRecord]]:
    """Random trials of a plausible trade-off, the first of them named methods."""

    def make(count: int, methods: tuple[str, ...] = ("full", "last", "tinytl:L+B"), seed: int = 0) -> list[TrialRecord]:
        random = np.random.default_rng(seed)
        trials = []
        for number in range(count):
            log_memory = random.uniform(4.5, 7.2)
            accuracy = 0.6 + 0.25 * (1 - np.exp(4.5 - log_memory)) - abs(random.normal(0, 0.03))
            trials.append(
                trial(
                    number,
                    method=methods[number] if number < len(methods) else None,
                    accuracy=accuracy,
                    peak_bytes=int(10**log_memory),
                    latency_s=0.05 * (log_memory - 4) * random.uniform(0.5, 1.5),
                )
            )
        return trials

    return make
