"""What is believed of the trials of a run, in the light of all of them together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..results.records import Judgement, TrialRecord
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .beliefs import Belief, joined
from .surrogate import Evidence, Floats, features

if TYPE_CHECKING:
    from .screens.base import AdditiveScore

#: Standard errors that set a policy apart from another.
APART = 1.96
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


def judge(problem: Judged, trials: Sequence[TrialRecord]) -> dict[int, Judgement]:
    """What is believed of each complete trial, by its number.

    A surrogate weighs every fine-tuning against the screen and against the others. So the best of many noisy results is
    not taken at its word: it is drawn to what policies like it have reached.
    """
    return judge_together([problem], [trials])


def judge_together(problems: Sequence[Judged], trials: Sequence[Sequence[TrialRecord]]) -> dict[int, Judgement]:
    """As `judge`, of the trials of several networks, whose numbers differ: each gains over the head of its own.

    Args:
        problems: The networks.
        trials: The trials of each.
    """
    every = [[trial for trial in own if trial.state == "complete"] for own in trials]
    scored = [(problem, own) for problem, own in zip(problems, every, strict=True) if own]
    if not scored:
        return {}
    mean, covariance = joined([believe(problem, own) for problem, own in scored])
    best = int(mean.argmax())
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    known = [trial for _, own in scored for trial in own]
    lasts: list[int | None] = []
    for _, own in scored:
        begin = len(lasts)
        last = next((begin + place for place, trial in enumerate(own) if trial.method == "last"), None)
        lasts += [last] * len(own)
    judged = {}
    for place, (trial, last) in enumerate(zip(known, lasts, strict=True)):
        gain, gain_se = (None, None) if last is None else _difference(mean, covariance, place, last)
        behind, behind_se = _difference(mean, covariance, best, place)
        judged[trial.number] = Judgement(
            accuracy=float(np.clip(mean[place], 0, 1)),
            accuracy_se=float(errors[place]),
            gain=gain,
            gain_se=gain_se,
            tied=behind <= APART * behind_se,
            covered=any(
                _covers(other, trial) and _within(mean, covariance, place, rival)
                for rival, other in enumerate(known)
                if rival != place
            ),
        )
    return judged


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


def believe(problem: Judged, trials: Sequence[TrialRecord]) -> Belief:
    """What is believed of complete trials of one network, one or more, in the light of all of them."""
    return Belief.of(trial_features(problem, trials), evidence_of(trials), _answers(trials))


def evidence_of(trials: Sequence[TrialRecord]) -> Evidence:
    """What complete trials say."""
    return Evidence.of(
        [trial.accuracy or 0.0 for trial in trials], [trial.accuracy_se or 0.0 for trial in trials], _answers(trials)
    )


def trial_features(problem: Judged, trials: Sequence[TrialRecord]) -> Floats:
    """What was known of the policies of some trials before they were trained, (P, F)."""
    policies = [UpdatePolicy.from_json(trial.policy) for trial in trials]
    table = UpdateTable.of(problem.trace, policies)
    memory = np.array([trial.peak_bytes for trial in trials], np.int64)
    return features(table, problem.score(table), memory)


def _answers(trials: Sequence[TrialRecord]) -> list[bytes]:
    return [np.unpackbits(np.frombuffer(bytes.fromhex(trial.answers), np.uint8)).tobytes() for trial in trials]


def _covers(other: TrialRecord, trial: TrialRecord) -> bool:
    """Whether a trial's policy costs no more than another's in anything; of equals the first."""
    costs, others = ((each.peak_bytes or 0, each.latency_s or 0.0) for each in (trial, other))
    no_more = all(theirs <= own for theirs, own in zip(others, costs, strict=True))
    return no_more and (others != costs or other.number < trial.number)


def _within(mean: Floats, covariance: Floats, place: int, rival: int) -> bool:
    """Whether a policy is not clearly ahead of a rival."""
    ahead, error = _difference(mean, covariance, place, rival)
    return ahead <= AHEAD * error


def _difference(mean: Floats, covariance: Floats, a: int, b: int) -> tuple[float, float]:
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    return float(mean[a] - mean[b]), float(np.sqrt(max(variance, 0.0)))
