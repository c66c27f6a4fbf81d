"""Finalists: which policies of a front are worth scoring again before anything is reported.

The most accurate of many noisy results owes a part of that to chance, and all of a search share theirs: one draw of
images and one seed. So when a search has ended, what decides its answer is scored again on another draw, with another
seed:

1. Undecided is the recommended member against the most accurate one, where they are two; and each member against the
   best of those that cost less, unless the one or the other is better with a probability of 1 - `UNSURE`.
2. Of these, the most undecided first, as many are scored again as the search has fine-tunings to spare: one in `SHARE`,
   in all rounds together. `last` is among them, since gains are differences to it.
3. What is undecided then is scored again in the next round, up to the number of rounds that the user allows.

Nothing is scored again where the largest gain is `CLEAR` times the noise of one: images are plenty then, and what is
still undecided are differences that hardly matter. (The standard error that fronts state is larger, by how far short
trainings may mislead, which scoring again would not change.)

Every decision depends on nothing but the trials and on rounds that are complete. So a run that is killed goes on with
the same finalists, and one that is taken further finds what it would have found at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..results.front import Front
from ..results.records import Member, Rescore, TrialRecord
from .judgement import evidence_of

#: Probability of the opposite below which it is decided which of two is better.
UNSURE = 0.1
#: Fine-tunings of the search for each that is done again. Finalists are cheap ones: they take less than this share of
#: the time.
SHARE = 3
#: Standard errors of a single gain, by answers and seed, that make the largest one clear.
CLEAR = 5.0
#: Fewest that are worth a round: `last`, and one to compare with it.
FEWEST = 2

#: What the front is, given what was scored again.
Believe = Callable[[Sequence[Rescore]], Front]


@dataclass(frozen=True)
class Standing:
    """How far the re-scoring of a run is.

    Attributes:
        front: What is believed by all that counts.
        round: The round in progress, from 1.
        due: Numbers of the trials that are to be scored in it yet; none where all is decided, or nothing is to spare.
        counted: How many re-scores count.
    """

    front: Front
    round: int
    due: tuple[int, ...]
    counted: int = 0


def standing(believe: Believe, trials: Sequence[TrialRecord], rescores: Sequence[Rescore]) -> Standing:
    """How far the re-scoring of a run is: round by round, what was due, and whether it was done.

    Args:
        believe: Gives the front.
        trials: The trials of the run.
        rescores: All that was scored again so far. What is not due does not count: in a run that was taken further,
            that of earlier finalists.
    """
    done = {(rescore.round, rescore.trial): rescore for rescore in rescores}
    spare = sum(trial.tried for trial in trials) // SHARE
    head = next((trial.number for trial in trials if trial.method == "last" and trial.state == "complete"), None)
    counted: list[Rescore] = []
    number = 1
    while True:
        front = believe(counted)
        chosen = () if _clear(front, trials, head) else _chosen(front, head, spare)
        missing = tuple(trial for trial in chosen if (number, trial) not in done)
        counted += [done[number, trial] for trial in chosen if trial not in missing]
        if missing or not chosen:
            return Standing(believe(counted) if len(missing) < len(chosen) else front, number, missing, len(counted))
        spare -= len(chosen)
        number += 1


def _chosen(front: Front, head: int | None, most: int) -> tuple[int, ...]:
    """The trials that are worth another score, at most so many, by number."""
    chosen = [] if head is None else [head]
    for pair in _undecided(front):
        new = [member.trial for member in pair if member.trial not in chosen]
        if len(chosen) + len(new) <= most:
            chosen += new
    return tuple(sorted(chosen)) if len(chosen) >= FEWEST else ()


def _clear(front: Front, trials: Sequence[TrialRecord], head: int | None) -> bool:
    """Whether the largest gain is far above what chance makes of one."""
    if head is None or not front.members or (best := front.best()).gain is None or best.trial == head:
        return False
    noise = evidence_of([trial for trial in trials if trial.number in (head, best.trial)]).noise
    error = math.sqrt(max(noise[0, 0] + noise[1, 1] - 2 * noise[0, 1], 0.0))
    return best.gain >= CLEAR * error


def _undecided(front: Front) -> list[tuple[Member, Member]]:
    """Pairs of members whose order is not known, the most important first."""
    if len(front.members) < 2:
        return []
    best, recommended = front.best(), front.recommended
    pairs = [] if recommended is None or recommended is best else [(recommended, best)]
    doubts = []
    for member in front.members:
        rival, probability = front.rival(member), member.cheaper_as_good or 0.0
        if rival is not None and (doubt := min(probability, 1 - probability)) > UNSURE:
            doubts.append((doubt, rival, member))
    return pairs + [(rival, member) for _, rival, member in sorted(doubts, key=lambda each: -each[0])]
