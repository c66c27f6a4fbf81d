"""Samplers: what to try next, given what has been tried.

A sampler is deterministic by its seed and by what it has been told, in order; so a run that was killed and told its
finished trials again goes on as if it had never stopped.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...spaces.space import Rows, UpdateSpace


class Sampler(ABC):
    """Asked for encoded policies and told what they are worth.

    Args:
        space: Where policies come from.
        seed: Same seed and same history, same answers.
        warm_up: Trials, the published methods among them, that are told before a model of what is good can be asked.
        objectives: Number of values that `tell` is given.
    """

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        self.space = space
        self.seed = seed

    @abstractmethod
    def ask(self, attempt: int = 0) -> Rows:
        """The next row to try, (D,).

        Args:
            attempt: Counts up while the answers so far were of no use (known, or over budget), and so varies them.
        """

    @abstractmethod
    def tell(self, row: Rows, values: Sequence[float]) -> None:
        """Learn what a row is worth.

        Args:
            row: An encoded policy, asked for or not, (D,).
            values: Its objectives, all to be minimised.
        """
