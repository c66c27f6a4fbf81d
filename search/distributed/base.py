"""Scoring many policies: what the search asks for, wherever and in however many processes it is done."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ...spaces.policy import UpdatePolicy
from ..proxies.base import Score


class Evaluate(Protocol):
    """Scores policies."""

    def __call__(self, policies: Sequence[UpdatePolicy]) -> Iterator[tuple[int, Score | str]]:
        """Score policies, several at once or one after another.

        Args:
            policies: What to score.

        Yields:
            Each policy's place in `policies`, and its score or the reason of its failure, as each is done.

        Raises:
            TinySearchError: The work cannot go on.
        """
        ...
