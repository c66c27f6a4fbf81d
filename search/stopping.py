"""When a search ends: small rules that say how many more policies may be tried, and why no more."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..core.units import format_seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is.

    Attributes:
        tried: Policies trained, those of earlier sessions and those that failed included.
        seconds: Wall time of this session.
    """

    tried: int
    seconds: float


class Stop(ABC):
    """A rule that ends a search; it is asked before each round, so that a round that has begun is finished."""

    @abstractmethod
    def left(self, progress: Progress) -> float:
        """How many more policies may be tried: 0 ends the search, infinity is no bound."""

    @abstractmethod
    def reason(self, progress: Progress) -> str:
        """Why the search ends, once `left` is 0."""


@dataclass(frozen=True, slots=True)
class AfterTrials(Stop):
    """Enough policies were tried.

    Attributes:
        most: Policies to try, those of earlier sessions included.
    """

    most: int

    def left(self, progress: Progress) -> float:
        """Those that are missing."""
        return max(0, self.most - progress.tried)

    def reason(self, progress: Progress) -> str:
        """The number, in words."""
        return f"{progress.tried} policies were tried"


@dataclass(frozen=True, slots=True)
class AfterSeconds(Stop):
    """The time is over.

    Attributes:
        most: Seconds of this session.
    """

    most: float

    def left(self, progress: Progress) -> float:
        """No bound until the time is over."""
        return 0 if progress.seconds >= self.most else float("inf")

    def reason(self, progress: Progress) -> str:
        """The time, in words."""
        return f"the time of {format_seconds(self.most)} is over"


@dataclass(frozen=True, slots=True)
class FirstOf(Stop):
    """Whichever of several rules ends the search first.

    Attributes:
        rules: One or more.

    Example:
        >>> stop = FirstOf((AfterTrials(30), AfterSeconds(600.0)))
        >>> stop.left(Progress(tried=12, seconds=40.0))
        18
        >>> stop.reason(Progress(tried=12, seconds=601.0))
        'the time of 600 s is over'
    """

    rules: tuple[Stop, ...]

    def left(self, progress: Progress) -> float:
        """What the strictest rule leaves."""
        return min(rule.left(progress) for rule in self.rules)

    def reason(self, progress: Progress) -> str:
        """What the first rule that leaves nothing says."""
        return next(rule.reason(progress) for rule in self.rules if rule.left(progress) <= 0)
