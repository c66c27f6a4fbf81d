"""Samplers: what to try next, given what has been tried."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...devices.costs import Costs
from ...results.limits import Limits
from ...results.records import TrialRecord
from ...spaces.space import Genotype, Genotypes, UpdateSpace
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace
from ..screens.base import AdditiveScore


class SamplerTask(Protocol):
    """What a sampler may look at: the problem, without its images."""

    @property
    def trace(self) -> Trace:
        """The backbone."""
        ...

    @property
    def limits(self) -> Limits:
        """What a policy may cost."""
        ...

    @property
    def score(self) -> AdditiveScore:
        """What the screen says it is worth to train each tensor."""
        ...

    @property
    def reference_point(self) -> Mapping[str, float]:
        """The worst value of each objective that counts."""
        ...

    @property
    def ideal_point(self) -> Mapping[str, float]:
        """The best value thinkable of each objective."""
        ...

    def cost(self, table: UpdateTable) -> Costs:
        """What the policies of a table cost."""
        ...

    def cost_rows(self, rows: Genotypes) -> Costs:
        """What encoded policies cost."""
        ...


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
    5. Before each round it is asked whether there is `enough`; most samplers never say so, and nobody tells them when
       the run is over.

    So an answer must depend on nothing but the seed and what was told, in order, and the attempt: not on how often it
    was asked before, nor on the time. Then a run that was killed goes on as if it had never stopped.

    Args:
        space: Where policies come from.
        seed: Same seed and same history, same answers.
        warm_up: Policies, the published methods among them, that are told before a model of what is good can be asked.
        objectives: Number of values that `tell` is given.

    Attributes:
        knows_better: Whether all that is worth a try is known from the start. Then the published methods need not be
            scored first: of them only `last` is, with which all others are compared.
    """

    knows_better = False

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        self.space = space
        self.seed = seed

    def prepare(self, task: SamplerTask) -> None:  # noqa: B027  # most samplers need no more than the space
        """Look at what is searched, once, before the first question.

        Args:
            task: What is known before any policy is scored.
        """

    def learn(self, trial: TrialRecord) -> None:  # noqa: B027  # most samplers need no more than the objectives
        """Learn all that is kept of a scored policy; `tell` follows, if the space has the policy."""

    def enough(self) -> str:
        """Why nothing more is worth a try, in words; empty as long as something is."""
        return ""

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
