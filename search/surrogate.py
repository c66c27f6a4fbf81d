"""What accuracies are to be believed: fine-tunings as noisy evidence on top of what the screen expects.

A Gaussian process over policies (Rasmussen and Williams 2006, chapter 2). Accuracy is expected to rise with the
logarithm of the screen's score; the evidence says by how much, and what remains is smooth in score, memory, depth and
what trains. All policies answer the same queries, and policies that are alike err on the same ones: so the noise of the
evidence is no noise of each policy alone, and its covariance is that of the answers.

A policy may be observed in several rounds. Where these ask for the same images, as they must of a finite data set, the
same images are hard again: the covariance of answers to one image holds across rounds, and only what training makes of
it is drawn anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from ..spaces.table import UpdateTable

Floats = npt.NDArray[np.float64]

#: Gains in accuracy that e times the score may bring, of which the evidence chooses, and how far the gain may be from
#: that, as a share of it. The ground truth has .016, .02 and .13. None is negative: on few images evidence can be as
#: misleading as to say that training less is better, and it is not where the screen was tried.
SLOPES, SLOPE_SD = (0.01, 0.02, 0.04, 0.08, 0.16), 0.5
#: The middle of these, and how many times it another gain may be, before there is evidence: standard deviation of its
#: logarithm.
USUAL_SLOPE, SLOPE_FACTOR = 0.02, 1.0
#: How far the gain that short trainings on fewer images show may be from that of full ones. From the ground truth: on
#: 200 images they showed .02 too little.
SHORT_SD = 0.015
#: How far the accuracy of any policy may be from the mean of the evidence.
LEVEL_SD = 0.3
#: Sizes of what remains, of which the evidence chooses.
REMAINS_SD = (0.002, 0.004, 0.008, 0.04, 0.2)
#: What remains usually, at most: the ground truth has no more. More is believed of policies that collapse, and only as
#: far as the evidence is much clearer then: standard deviation of the logarithm.
USUAL_REMAINS, REMAINS_FACTOR = 0.008, 0.7
#: How far two trainings with other seeds differ; from the ground truth.
SEED_SD = 0.008
#: How far a round of episodes and its seed move all policies alike. Assumed: as far as a seed moves one; four policies
#: in four rounds, on 300 images, gave .009.
ROUND_SD = 0.008


@dataclass(frozen=True)
class Evidence:
    """What P fine-tunings said, of as many policies or fewer.

    Attributes:
        accuracy: Mean share of queries answered right, (P,).
        noise: Covariance of how far these are from what another draw of images and another seed would give, (P, P).
    """

    accuracy: Floats
    noise: Floats

    @classmethod
    def of(
        cls,
        accuracies: Sequence[float],
        errors: Sequence[float],
        answers: Sequence[bytes],
        rounds: Sequence[int] | None = None,
        images: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> "Evidence":
        """Make evidence of scores.

        Args:
            accuracies: Of each fine-tuning, (P,).
            errors: Their standard errors, (P,): what counts where the proxy gives no answers.
            answers: Whether each query was answered right, a byte each, in an order that a round's fine-tunings share;
                empty where the proxy does not say.
            rounds: Which draw of episodes each is of, (P,); None stands for the same.
            images: By round, where the images of its queries are in the training split. A round that is not there is
                taken to ask for images that no other asks for.
        """
        number = np.zeros(len(accuracies), np.int64) if rounds is None else np.array(rounds, np.int64)
        noise = np.diag([0.0 if given else error**2 for given, error in zip(answers, errors, strict=True)])
        noise += _shared(answers, number.tolist(), images)
        noise += SEED_SD**2 * np.eye(len(number))
        if len(np.unique(number)) > 1:  # of a single round, it tells no policies apart
            noise += ROUND_SD**2 * np.equal.outer(number, number)
        return cls(np.array(accuracies, np.float64), noise)

    def believing(self, accuracy: float) -> "Evidence":
        """This, and a further policy as if it had given what is expected of it."""
        count = len(self.accuracy)
        noise = np.zeros((count + 1, count + 1))
        noise[:count, :count] = self.noise
        noise[count, count] = np.diag(self.noise).mean()
        return Evidence(np.append(self.accuracy, accuracy), noise)


def _shared(answers: Sequence[bytes], rounds: Sequence[int], images: Mapping[int, Sequence[int]]) -> Floats:
    """Covariance of accuracies by which images happened to be asked for, (P, P).

    An accuracy is a mean over images, each of which adds how far its answer is from the mean; images that two
    fine-tunings were both asked for add the product to their covariance.
    """
    places: dict[tuple[int, int], int] = {}  # an image by itself, or by its round where it is not known which it is
    rows = []
    for given, number in zip(answers, rounds, strict=True):
        right = np.frombuffer(given, np.uint8).astype(np.float64)
        known = images.get(number)
        if known is not None and len(known) == len(right):
            keys = [(-1, image) for image in known]
        else:
            keys = [(number, place) for place in range(len(right))]
        asked = [places.setdefault(key, len(places)) for key in keys]
        rows.append((asked, (right - right.mean()) / len(right)) if len(right) else ([], right))
    moved = np.zeros((len(rows), len(places)))
    for row, (asked, parts) in zip(moved, rows, strict=True):
        np.add.at(row, asked, parts)
    covariance: Floats = moved @ moved.T
    return covariance


def features(table: UpdateTable, scores: Floats, memory_bytes: npt.NDArray[np.int64]) -> Floats:
    """What is known of N policies before any is trained, (N, 4): log score, log memory, depth, log of what trains."""
    depth = 1 - table.trains.argmax(1) / len(table.trace.rows)
    trained = np.log(table.trained_params.sum(1).astype(np.float64))
    return np.column_stack([np.log(np.maximum(scores, 1e-12)), np.log(memory_bytes.astype(np.float64)), depth, trained])


@dataclass(frozen=True)
class _Fit:
    """One setting of the process, and the likelihood of the evidence under it."""

    slope: float
    remains: float
    residual: Floats
    factor: tuple[Floats, bool]
    likelihood: float


class Surrogate:
    """Accuracies of policies, given evidence on some of them.

    Args:
        known: Features of the policy of each fine-tuning, (P, F); the first is the log of the score.
        evidence: What the fine-tunings said.
    """

    def __init__(self, known: Floats, evidence: Evidence) -> None:
        self._known, self._evidence = known, evidence
        self._centre = float(known[:, 0].mean())
        self._level = float(evidence.accuracy.mean())
        self._scale = np.maximum(known.std(0), [0.3, 0.1, 0.1, 0.5])
        fits = [self._fit(slope, remains) for slope in SLOPES for remains in REMAINS_SD]
        self._best = max(fits, key=lambda fit: fit.likelihood)
        self._weights = cho_solve(self._best.factor, self._best.residual)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Means (N,) and covariances (N, N) of the accuracies of N policies, by their features."""
        slope, remains = self._best.slope, self._best.remains
        across = self._kernel(points, self._known, slope, remains)
        known = across @ cho_solve(self._best.factor, across.T)
        return self._mean(points, slope) + across @ self._weights, self._kernel(points, points, slope, remains) - known

    def smoother(self, points: Floats) -> Floats:
        """How the means of N policies follow the evidence on P of them, (N, P)."""
        across = self._kernel(points, self._known, self._best.slope, self._best.remains)
        smoother: Floats = cho_solve(self._best.factor, across.T).T
        return smoother

    def _fit(self, slope: float, remains: float) -> _Fit:
        centred = self._known[:, 0] - self._centre
        noise = self._evidence.noise + SHORT_SD**2 * np.multiply.outer(centred, centred)
        factor = cho_factor(self._kernel(self._known, self._known, slope, remains) + noise, lower=True)
        residual = self._evidence.accuracy - self._mean(self._known, slope)
        usual = (np.log(slope / USUAL_SLOPE) / SLOPE_FACTOR) ** 2
        usual += (max(0.0, np.log(remains / USUAL_REMAINS)) / REMAINS_FACTOR) ** 2
        fit = residual @ cho_solve(factor, residual) + usual
        return _Fit(slope, remains, residual, factor, float(-0.5 * fit - np.log(np.diag(factor[0])).sum()))

    def _mean(self, points: Floats, slope: float) -> Floats:
        return self._level + slope * (points[:, 0] - self._centre)

    def _kernel(self, a: Floats, b: Floats, slope: float, remains: float) -> Floats:
        line = np.multiply.outer(a[:, 0] - self._centre, b[:, 0] - self._centre)
        apart = np.square((a[:, None] - b[None]) / self._scale).sum(-1)
        kernel: Floats = LEVEL_SD**2 + (SLOPE_SD * slope) ** 2 * line + remains**2 * np.exp(-apart / 2)
        return kernel
