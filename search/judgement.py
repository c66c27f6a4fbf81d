"""What is believed of the trials of a run, in the light of all of them together."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from ..results.pareto import OBJECTIVES, as_minimised, nondominated
from ..results.records import Judgement, Rescore, TrialRecord
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .beliefs import Belief, joined
from .surrogate import Evidence, Floats, features

if TYPE_CHECKING:
    from .screens.base import AdditiveScore

#: Standard errors that set a policy apart from another.
APART = 1.96
#: Most trials of a network that are weighed against each other, which takes memory by the square of their number and
#: time by its cube. Samplers that screen propose fewer.
MOST = 500
#: Standard errors that a policy must be ahead of one that costs no more, or a front does without it: as many as make it
#: the better one in seven of ten cases.
AHEAD = 0.5


class Judged(Protocol):
    """What trials were made of."""

    @property
    def trace(self) -> Trace:
        """The backbone."""
        ...

    @property
    def score(self) -> "AdditiveScore":
        """What the screen says of each tensor."""
        ...


def judge(problem: Judged, trials: Sequence[TrialRecord], rescores: Sequence[Rescore] = ()) -> dict[int, Judgement]:
    """What is believed of each complete trial, by its number; of more than `MOST`, of the foremost.

    A surrogate weighs every fine-tuning against the screen and against the others. So the best of many noisy results is
    not taken at its word: it is drawn to what policies like it have reached, and to what it reached itself when it was
    scored again.

    Args:
        problem: What was searched.
        trials: The trials of a run.
        rescores: What was scored again of them.
    """
    known = _foremost(_complete(trials))
    if not known:
        return {}
    again = [rescore for rescore in rescores if rescore.accuracy is not None]
    return _judgements([known], [believe(problem, known, again)])


def judge_together(problems: Sequence[Judged], trials: Sequence[Sequence[TrialRecord]]) -> dict[int, Judgement]:
    """As `judge`, of the trials of several networks, whose numbers differ: each gains over the head of its own.

    Args:
        problems: The networks.
        trials: The trials of each.
    """
    scored = [(problem, known) for problem, own in zip(problems, trials, strict=True) if (known := _complete(own))]
    if not scored:
        return {}
    return _judgements([own for _, own in scored], [believe(problem, own) for problem, own in scored])


def _judgements(scored: Sequence[Sequence[TrialRecord]], beliefs: Sequence[Belief]) -> dict[int, Judgement]:
    """What is to be said of the trials of each network."""
    mean, covariance = joined(beliefs)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    known = [trial for own in scored for trial in own]
    lasts: list[int | None] = []
    for own in scored:
        begin = len(lasts)
        last = next((begin + place for place, trial in enumerate(own) if trial.method == "last"), None)
        lasts += [last] * len(own)
    ahead, ahead_se = _differences(mean, covariance)
    covered = np.any(_covering(known) & (ahead <= AHEAD * ahead_se), axis=1)
    # Of those that a front has: another may look better by less than its error, which ties would be measured by.
    best = int(np.where(covered, -np.inf, mean).argmax())
    as_good = _as_good(ahead, ahead_se)
    numbers = [trial.number for trial in known]
    judged = {}
    for place, (trial, last) in enumerate(zip(known, lasts, strict=True)):
        others = dict(zip(numbers, as_good[:, place].tolist(), strict=True))
        del others[trial.number]
        judged[trial.number] = Judgement(
            accuracy=float(np.clip(mean[place], 0, 1)),
            accuracy_se=float(errors[place]),
            gain=None if last is None else float(ahead[place, last]),
            gain_se=None if last is None else float(ahead_se[place, last]),
            tied=bool(ahead[best, place] <= APART * ahead_se[best, place]),
            covered=bool(covered[place]),
            as_good=others,
        )
    return judged


def failures(failed: Sequence[TrialRecord], tried: int) -> tuple[str, ...]:
    """What users should know of policies that could not be scored; empty where all were.

    Args:
        failed: The trials of those policies.
        tried: How many were tried.

    Example:
        >>> lost = TrialRecord(number=3, hash="0" * 16, policy="", row=None, state="failed", error="no memory")
        >>> failures([lost], 30)
        ('1 of 30 policies could not be scored; the first: no memory (retry_failed tries again)',)
    """
    if not failed:
        return ()
    said = f"{len(failed)} of {tried} policies could not be scored; the first: {failed[0].error or '':.120}"
    return (f"{said} (retry_failed tries again)",)


def doubts(trials: Sequence[TrialRecord], judged: Mapping[int, Judgement]) -> tuple[str, ...]:
    """What to be warned of: that the images are too few to tell the policies apart.

    Args:
        trials: The trials of a run.
        judged: What is believed of them.
    """
    known = [trial for trial in trials if trial.number in judged and trial.answers]
    if len(known) < 2:
        return ()
    noise = evidence_of(known).noise
    own = np.diag(noise)
    pairs = np.sqrt(np.maximum(own[:, None] + own - 2 * noise, 0))[np.triu_indices(len(known), 1)]
    least = APART * float(np.median(pairs))
    right = sum(bin(int(digit, 16)).count("1") for digit in known[0].answers)
    queries = round(right / known[0].accuracy) if known[0].accuracy else 4 * len(known[0].answers)
    accuracies = [judgement.accuracy for judgement in judged.values()]
    if least <= (max(accuracies) - min(accuracies)) / 2:
        return ()
    return (
        f"{queries} query images: differences in accuracy below {100 * least:.1f} points mean little; more "
        "images would tell more",
    )


def believe(problem: Judged, trials: Sequence[TrialRecord], rescores: Sequence[Rescore] = ()) -> Belief:
    """What is believed of complete trials of one network, one or more, in the light of all of them.

    Args:
        problem: What was searched.
        trials: The trials.
        rescores: What was scored again of them, and did not fail.
    """
    places = {trial.number: place for place, trial in enumerate(trials)}
    scored: list[TrialRecord | Rescore] = [*trials, *rescores]
    observed = [*range(len(trials)), *(places[rescore.trial] for rescore in rescores)]
    return Belief.of(trial_features(problem, trials), observed, evidence_of(scored), _all_answers(scored))


def evidence_of(scored: Sequence[TrialRecord | Rescore]) -> Evidence:
    """What complete trials say, and what was scored again of them."""
    return Evidence.of(
        [each.accuracy or 0.0 for each in scored],
        [each.accuracy_se or 0.0 for each in scored],
        _all_answers(scored),
        [_round(each) for each in scored],
        _images(scored),
    )


def _all_answers(scored: Sequence[TrialRecord | Rescore]) -> list[bytes]:
    """Whether each query was answered right, a byte each; of an unknown number, up to seven more that were not."""
    images = _images(scored)
    packed = [np.frombuffer(bytes.fromhex(each.answers), np.uint8) for each in scored]
    counts = [len(images.get(_round(each), ())) or None for each in scored]
    return [np.unpackbits(bits)[:count].tobytes() for bits, count in zip(packed, counts, strict=True)]


def _images(scored: Sequence[TrialRecord | Rescore]) -> dict[int, tuple[int, ...]]:
    """The images of each round; trials from before they were noted answered those that others note."""
    return {_round(each): each.images for each in scored if each.images}


def _round(scored: TrialRecord | Rescore) -> int:
    return scored.round if isinstance(scored, Rescore) else 0


def trial_features(problem: Judged, trials: Sequence[TrialRecord]) -> Floats:
    """What was known of the policies of some trials before they were trained, (P, F)."""
    policies = [_policy(trial.policy) for trial in trials]
    table = UpdateTable.of(problem.trace, policies)
    memory = np.array([trial.peak_bytes for trial in trials], np.int64)
    return features(table, problem.score(table), memory)


def _foremost(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The `MOST` trials that fewest stand before: the front, the front of the rest, and so on; and the head alone."""
    if len(trials) <= MOST:
        return trials
    values = as_minimised(
        [[getattr(trial, objective.name) for objective in OBJECTIVES] for trial in trials], OBJECTIVES
    )
    chosen = [place for place, trial in enumerate(trials) if trial.method == "last"][:1]
    left = np.array([place for place in range(len(trials)) if place not in chosen])
    while len(chosen) < MOST:
        front = nondominated(values[left])
        chosen += left[front].tolist()
        left = left[~front]
    return [trials[place] for place in sorted(chosen[:MOST])]


@lru_cache(maxsize=4 * MOST)
def _policy(text: str) -> UpdatePolicy:
    """A policy of a trial: all of them are asked for in every round."""
    return UpdatePolicy.from_json(text)


def _complete(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [trial for trial in trials if trial.state == "complete"]


def _covering(trials: Sequence[TrialRecord]) -> npt.NDArray[np.bool_]:
    """Whether the trial of each column costs no more than that of the row, (P, P); of equals, the first does."""
    costs = np.array([[trial.peak_bytes or 0, trial.latency_s or 0.0] for trial in trials], np.float64)
    numbers = np.array([trial.number for trial in trials])
    no_more = np.all(costs[None] <= costs[:, None], axis=-1)
    equal = np.all(costs[None] == costs[:, None], axis=-1)
    covering: npt.NDArray[np.bool_] = no_more & (~equal | (numbers[None] < numbers[:, None]))
    return covering


def _as_good(ahead: Floats, error: Floats) -> Floats:
    """The probability that each policy is at least as accurate as the one of each column, (P, P)."""
    certain = error <= 0
    probability: Floats = np.where(certain, ahead >= 0, ndtr(ahead / np.where(certain, 1.0, error)))
    return probability


def _differences(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """How far each policy is ahead of the one of each column, (P, P), and the standard errors of that."""
    own = np.diag(covariance)
    variance = own[:, None] + own - 2 * covariance
    return mean[:, None] - mean, np.sqrt(np.maximum(variance, 0.0))
