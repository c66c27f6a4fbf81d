"""Samplers: what to try next, given what has been tried."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...spaces.space import Genotype, UpdateSpace


class Sampler(ABC):
    """Asked for encoded policies and told what they are worth.

    A run uses a sampler like this:

    1. The run makes one, in its own process, when everything is loaded. With each session a new one is made: nothing of
       a sampler is kept on disk.
    2. The sampler is asked for a round of policies, without being told anything in between. An answer that breaks a
       limit is cut until it fits, and one that is known already is passed over; then it is asked again, with a larger
       `attempt`. So what it is told later need not be what it answered.
    3. When all of the round is scored, it is told the policies that were scored, in the order of proposal. It is not
       told those that failed or break a limit. It is told published methods too, if the space has them: policies that
       it never proposed.
    4. In a resumed run it is first asked and told again all that it was in the sessions before.
    5. Nobody tells it when the run is over.

    So an answer must depend on nothing but the seed and what was told, in order, and the attempt: not on how often it
    was asked before, nor on the time. Then a run that was killed goes on as if it had never stopped.

    Args:
        space: Where policies come from.
        seed: Same seed and same history, same answers.
        warm_up: Policies, the published methods among them, that are told before a model of what is good can be asked.
        objectives: Number of values that `tell` is given.
    """

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        self.space = space
        self.seed = seed

    @abstractmethod
    def ask(self, attempt: int = 0) -> Genotype:
        """The next encoded policy to try, (D,).

        Args:
            attempt: Counts up while the answers so far were of no use (known, or over budget), and so varies them.
        """

    @abstractmethod
    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Learn what a policy is worth.

        Args:
            genotype: An encoded policy, asked for or not, (D,).
            values: Its objectives, all to be minimised.
        """
