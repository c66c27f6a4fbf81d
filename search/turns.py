"""Searches of several networks for one front, under one budget: whose turn it is."""

import time
from collections.abc import Iterator, Sequence

from ..results.records import TrialRecord
from .engine import Search
from .samplers.auto import OPENING, AutoSampler
from .stopping import Progress, Stop


class Together(Stop):
    """A rule for several searches, whose policies and time count together.

    Args:
        rule: The rule.
        tried: Policies that were trained in earlier sessions.
    """

    def __init__(self, rule: Stop, tried: int) -> None:
        self._rule, self._tried, self._begun = rule, tried, time.monotonic()

    def count(self, record: TrialRecord) -> None:
        """Take note of a trial of any of the searches."""
        self._tried += record.tried

    def left(self, progress: Progress | None = None) -> float:
        """What the rule leaves all of them, whatever a single one's progress is."""
        return self._rule.left(self._progress)

    def reason(self, progress: Progress | None = None) -> str:
        """What the rule says of all of them."""
        return self._rule.reason(self._progress)

    @property
    def _progress(self) -> Progress:
        return Progress(self._tried, time.monotonic() - self._begun)


class Turns:
    """Has several searches take turns, a round at a time.

    First each has `OPENING` turns, a policy in each: the head alone, which its others are compared with, and its best
    candidate by that, which says how much it gains by training more. Then a round goes to the network whose best
    candidate is expected to add most to the hypervolume of the front of all of them. So a network that could only add
    what others reach at no more cost gets no more. What was done in earlier sessions is gone through again, in the same
    order.

    Args:
        searches: One for each network, all with `stop` for their rule.
        samplers: Theirs, which know each other as rivals.
        stop: The rule.

    Attributes:
        ended: Why it ended, in words; empty until it has.
    """

    def __init__(self, searches: Sequence[Search], samplers: Sequence[AutoSampler], stop: Together) -> None:
        self._searches, self._samplers, self._stop = searches, samplers, stop
        self._open = dict(enumerate(search.steps() for search in searches))
        self.ended = ""

    def __iter__(self) -> Iterator[tuple[int, TrialRecord]]:
        """Yield every new trial once it is in its store, with the place of its network."""
        for place in list(range(len(self._searches))) * OPENING:
            if place in self._open:
                yield from self._turn(place)
        while not self.ended:
            promises = {place: self._samplers[place].promise() for place in self._open}
            if all(promise == -float("inf") for promise in promises.values()):
                self.ended = "there is nothing new to try"
            else:
                yield from self._turn(max(promises, key=lambda place: promises[place]))

    def _turn(self, place: int) -> Iterator[tuple[int, TrialRecord]]:
        """A round of one network; its search, or all of it, may end there."""
        if self.ended:
            return
        for record in self._open[place]:
            if record is None:
                return
            self._stop.count(record)
            yield place, record
        del self._open[place]
        if self._stop.left() <= 0 or self._samplers[place].enough():
            self.ended = self._searches[place].ended
