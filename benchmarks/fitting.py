"""What the fits of latency models share: data, least squares on relative errors, errors, and the profiles' blocks."""

import argparse
import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from scipy.optimize import lsq_linear
from scipy.stats import kendalltau

from tinysearch.devices.profile.kernels import FitError, Kernel, Latency
from tinysearch.devices.profile.quantities import FROM_FILE
from tinysearch.devices.profile.writer import dump

Floats = npt.NDArray[np.float64]
DATA = Path(__file__).parent / "data"
PROFILES = Path(__file__).parents[1] / "devices" / "profiles"


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a data file; lines that begin with # say where it is from."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def column(rows: Sequence[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) for row in rows])


def fit(work: Floats, seconds: Floats, known: Floats | float = 0.0, fastest: Floats | float = np.inf) -> Floats:
    """Non-negative seconds a unit of work that minimise the squares of relative errors.

    Args:
        work: (points, terms).
        seconds: Measured, (points,).
        known: Seconds that are not fitted, (points,).
        fastest: Most units a second of each term, such as a processor's peak.
    """
    scale = work.max(0)
    least = 1 / np.broadcast_to(fastest, scale.shape) * scale
    result = lsq_linear(work / scale / seconds[:, None], (seconds - known) / seconds, bounds=(least, np.inf))
    return np.asarray(result.x / scale)


def held_out(groups: Sequence[npt.NDArray[np.bool_]], predict: Callable[[Floats, Floats], Floats]) -> Floats:
    """Predictions of points by fits to all others; `predict` gets the mask to fit to and the mask to predict."""
    result = np.full(len(groups[0]), np.nan)
    for group in groups:
        result[group] = predict(~group, group)
    return result


def each_alone(count: int) -> list[npt.NDArray[np.bool_]]:
    return list(np.eye(count, dtype=bool))


def error_of(predicted: Floats, measured: Floats, of: str, source: str) -> FitError:
    """Errors in nn-Meter's terms, rounded to a tenth of a percent; points that were not predicted are left out."""
    known = ~np.isnan(predicted)
    relative = predicted[known] / measured[known] - 1
    return FitError(
        of=of,
        mape=round(100 * float(np.abs(relative).mean()), 1),
        within_10=round(100 * float((np.abs(relative) <= 0.10).mean()), 1),
        within_20=round(100 * float((np.abs(relative) <= 0.20).mean()), 1),
        tau=round(float(kendalltau(predicted[known], measured[known]).statistic), 3),
        bias=round(100 * float(np.median(relative)), 1),
        points=int(known.sum()),
        source=source,
    )


def report(label: str, predicted: Floats, measured: Floats) -> None:
    error = error_of(predicted, measured, label, label)
    worst = np.nanmax(np.abs(predicted / measured - 1))
    print(
        f"{label:58} MAPE {error.mape:4.1f} %, worst {worst:5.1%}, within 10 %: {error.within_10:.0f} %, "
        f"within 20 %: {error.within_20:.0f} %, tau {error.tau:.3f}, median bias {error.bias:+.1f} %"
    )


def kernel(source: str, *, assumed: bool = False, **seconds_per: float) -> Kernel:
    """A kernel from seconds per unit, its rates rounded to three digits: overhead, macs, outputs, bytes."""
    rates = {
        name: float(f"{value if name == 'overhead' else 1 / value:.3g}")
        for name, value in seconds_per.items()
        if value > 0
    }
    return Kernel(source=source, assumed=assumed, **rates)


def conclude(latency: Latency, profile: str) -> None:
    """Print the latency block that was fitted; with --write, put it into a bundled profile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help=f"put the fit into devices/profiles/{profile}.yaml")
    block = dump({"latency": latency.model_dump(mode="json", exclude_defaults=True)})
    if not parser.parse_args().write:
        print(f"\n{block}")
        return
    path = PROFILES / f"{profile}.yaml"
    path.write_text(re.sub(r"^latency:\n(?:[ #].*\n)+", lambda _: block, path.read_text(), flags=re.MULTILINE))
    print(f"written: {path}")


def as_read(latency: Latency) -> Latency:
    """A latency model as it is read back from a file, in which numbers are written with units."""
    content = yaml.safe_load(dump(latency.model_dump(mode="json", exclude_defaults=True)))
    return Latency.model_validate(content, context=FROM_FILE)
