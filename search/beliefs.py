"""What is believed of policies that were fine-tuned, and how the errors of several networks go together.

Each network has a surrogate of its own: how a network's accuracies spread says nothing of another's. But all of them
answer the same queries. Where those are easy, all look better than they are, and that cancels in a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .surrogate import Evidence, Floats, Surrogate


@dataclass(frozen=True)
class Belief:
    """What is believed of P policies of one network, in the light of fine-tunings of all of them.

    Attributes:
        mean: Their accuracies, (P,).
        covariance: Of how far these may be off, (P, P).
        smoother: How the means follow what F fine-tunings said, (P, F).
        answers: Whether each query was answered right, a byte each, for every fine-tuning; empty where that is not
            known.
    """

    mean: Floats
    covariance: Floats
    smoother: Floats
    answers: tuple[bytes, ...]

    @classmethod
    def of(cls, points: Floats, observed: Sequence[int], evidence: Evidence, answers: Sequence[bytes]) -> "Belief":
        """What a surrogate makes of evidence.

        Args:
            points: Features of the policies, a row for each of P.
            observed: The policy of each fine-tuning, (F,).
            evidence: What the fine-tunings said.
            answers: Whether each query was answered right, of each fine-tuning.
        """
        surrogate = Surrogate(points[list(observed)], evidence)
        return cls(*surrogate.predict(points), surrogate.smoother(points), tuple(answers))


def joined(beliefs: Sequence[Belief]) -> tuple[Floats, Floats]:
    """Means and covariance of the policies of several networks, one network after another.

    Means and errors within a network are those of its own surrogate. If S and T are the smoothers of two networks and N
    is the covariance of their answers, then their errors have the covariance S N T': a surrogate is linear in its
    evidence, and nothing but the queries is common to both. Where answers are not known that is taken for 0, so that
    differences seem less certain than they are.

    Args:
        beliefs: Of each network, one or more.

    Returns:
        The means, (P,), and the covariance, (P, P), of all P policies.
    """
    mean = np.concatenate([belief.mean for belief in beliefs])
    covariance = np.zeros((len(mean), len(mean)))
    ends = np.cumsum([len(belief.mean) for belief in beliefs])
    places = [slice(end - len(belief.mean), end) for belief, end in zip(beliefs, ends, strict=True)]
    for number, (belief, own) in enumerate(zip(beliefs, places, strict=True)):
        covariance[own, own] = belief.covariance
        for other, theirs in zip(beliefs[:number], places[:number], strict=True):
            covariance[own, theirs] = belief.smoother @ _common_noise(belief, other) @ other.smoother.T
            covariance[theirs, own] = covariance[own, theirs].T
    return mean, covariance


def _common_noise(one: Belief, other: Belief) -> Floats:
    """Covariance of what fine-tunings of two networks said by the draw of queries, (F, G)."""
    lengths = {len(each) for each in (*one.answers, *other.answers)}
    if len(lengths) != 1 or lengths == {0}:
        return np.zeros((len(one.answers), len(other.answers)))
    right = [np.array([np.frombuffer(each, np.uint8) for each in belief.answers], float) for belief in (one, other)]
    a, b = (each - each.mean(1, keepdims=True) for each in right)
    noise: Floats = a @ b.T / a.shape[1] ** 2
    return noise
