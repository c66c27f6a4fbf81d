"""What every sampler must do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import pytest

from ..devices.costs import Costs, cost_rows, cost_table
from ..devices.profile import load_device
from ..results.limits import Limits
from ..results.records import TrialRecord
from ..search.samplers import Sampler, SamplerFactory
from ..search.screens import AdditiveScore
from ..spaces.space import Genotype, Genotypes, UpdateSpace
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .networks import HeadOnly, OneConv, SmallNet, traced

#: Trials told before a sampler may build on them.
WARM_UP = 6


def worth(row: Genotype) -> list[float]:
    """Three objectives that disagree."""
    return [-float(row.sum()), float(row[: len(row) // 2].sum()), float((row > 0).sum())]


def proceed(sampler: Sampler, trials: int) -> list[list[int]]:
    """Ask and tell, `trials` times; the rows."""
    rows = []
    for _ in range(trials):
        row = sampler.ask()
        rows.append(row.tolist())
        tell(sampler, row)
    return rows


def tell(sampler: Sampler, row: Genotype) -> None:
    """Tell all that a run would tell of a policy: the more genes there are, the more accurate it is."""
    values = worth(row)
    costs = cost_rows(sampler.space, row, load_device("rpi4"))
    policy = sampler.space.decode(row)
    sampler.learn(
        TrialRecord(
            number=0,
            hash=policy.hash,
            policy=policy.to_json(),
            row=tuple(int(level) for level in row),
            state="complete",
            accuracy=0.5 + 0.4 * float(row.sum()) / max(1, int(sampler.space.levels.sum())),
            accuracy_se=0.01,
            peak_bytes=int(costs.peak_bytes[0]),
            latency_s=float(costs.latency_s[0]),
        )
    )
    sampler.tell(row, values)


@dataclass(frozen=True)
class Task:
    """What a sampler may look at, of a small network on a Raspberry Pi 4; every tensor is worth the same."""

    space: UpdateSpace

    @property
    def limits(self) -> Limits:
        """None."""
        return Limits()

    @property
    def reference_point(self) -> Mapping[str, float]:
        """Chance, and more than any of these policies costs."""
        return {"accuracy": 0.1, "peak_bytes": 1e8, "latency_s": 1.0}

    @property
    def ideal_point(self) -> Mapping[str, float]:
        """Everything right, at no cost."""
        return {"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0}

    @property
    def trace(self) -> Trace:
        """The network."""
        return self.space.trace

    @property
    def score(self) -> AdditiveScore:
        """One for each tensor."""
        ones = np.ones(len(self.trace.rows))
        return AdditiveScore(self.trace, ones, ones, ones)

    def cost(self, table: UpdateTable) -> Costs:
        """What the policies of a table cost."""
        return cost_table(table, load_device("rpi4"))

    def cost_rows(self, rows: Genotypes) -> Costs:
        """What encoded policies cost."""
        return cost_rows(self.space, rows, load_device("rpi4"))


class SamplerSuite:
    """Tests of a sampler; the fixture `factory` gives what makes it."""

    @pytest.fixture
    def factory(self) -> SamplerFactory:
        """A subclass of `Sampler`, or a function that makes one."""
        raise NotImplementedError("give the sampler's factory by a fixture of this name")

    @pytest.fixture
    def space(self) -> UpdateSpace:
        """The space that is searched."""
        return UpdateSpace(traced(SmallNet))

    @staticmethod
    def _make(factory: SamplerFactory, space: UpdateSpace, seed: int = 0) -> Sampler:
        sampler = factory(space, seed, warm_up=WARM_UP, objectives=3)
        sampler.prepare(Task(space))
        return sampler

    def test_rows_are_policies_of_the_space(self, factory: SamplerFactory, space: UpdateSpace) -> None:
        """Answers are int64 rows of the space, before and after the warm-up."""
        sampler = self._make(factory, space)
        for _ in range(14):
            row = sampler.ask()
            assert row.dtype == np.int64
            assert row.shape == (len(space),)
            space.check(row[None])
            tell(sampler, row)

    def test_same_seed_same_rows_and_another_seed_others(self, factory: SamplerFactory, space: UpdateSpace) -> None:
        """A sampler is a function of its seed and of what it was told."""
        first, again, other = (proceed(self._make(factory, space, seed), 12) for seed in (3, 3, 4))
        assert first == again
        # Where all that is worth a try is known, nothing is left to chance.
        assert first != other or self._make(factory, space).knows_better

    def test_told_the_same_history_it_goes_on_as_if_it_had_never_stopped(
        self, factory: SamplerFactory, space: UpdateSpace
    ) -> None:
        """So a run that was killed is resumed."""
        whole = proceed(self._make(factory, space), 16)
        for stop in (3, 6, 11):
            resumed = self._make(factory, space)
            for row in whole[:stop]:
                tell(resumed, np.array(row))
            assert proceed(resumed, 16 - stop) == whole[stop:]

    @pytest.mark.parametrize("told", [0, 10])
    def test_questions_between_trials_change_nothing(
        self, factory: SamplerFactory, space: UpdateSpace, told: int
    ) -> None:
        """A resumed run asks other questions than the one that was killed."""
        quiet, curious = self._make(factory, space), self._make(factory, space)
        proceed(quiet, told)
        for _ in range(told):
            curious.ask(7)
            tell(curious, curious.ask())
        assert proceed(quiet, 3) == proceed(curious, 3)

    @pytest.mark.parametrize("told", [0, 10])
    def test_attempts_vary_the_answer_and_repeat_it_when_repeated(
        self, factory: SamplerFactory, space: UpdateSpace, told: int
    ) -> None:
        """Many asks give many rows, as those so far may have been of no use."""
        sampler = self._make(factory, space)
        proceed(sampler, told)
        answers = [sampler.ask(attempt).tolist() for attempt in range(8)]
        assert len({tuple(row) for row in answers}) > 4
        assert [sampler.ask(attempt).tolist() for attempt in range(8)] == answers
        assert len({tuple(sampler.ask(attempt).tolist()) for attempt in range(60)}) > 20

    def test_rows_that_were_not_asked_for_may_be_told(self, factory: SamplerFactory, space: UpdateSpace) -> None:
        """Published methods are; what is told stays as it is."""
        sampler = self._make(factory, space)
        for row in space.sample(10, 1):
            before = row.copy()
            tell(sampler, row)
            assert np.array_equal(row, before)
        space.check(sampler.ask()[None])

    @pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (inf, inf, inf), (1.0, inf, -1e300)], ids=str)
    def test_equal_and_infinite_values_are_taken(
        self, factory: SamplerFactory, space: UpdateSpace, values: Sequence[float]
    ) -> None:
        """Policies may tie, and a cost may be infinite."""
        sampler = self._make(factory, space)
        for _ in range(12):
            row = sampler.ask()
            space.check(row[None])
            sampler.tell(row, values)
        space.check(sampler.ask()[None])

    def test_a_space_of_two_genes_is_searched_whole(self, factory: SamplerFactory) -> None:
        """Many attempts find every value of a gene: a search ends where they find nothing new."""
        space = UpdateSpace(traced(OneConv))
        sampler = self._make(factory, space)
        found = set()
        for trial in range(12):
            found |= {tuple(sampler.ask(attempt).tolist()) for attempt in range(100 if trial in (0, 11) else 1)}
            tell(sampler, sampler.ask())
        space.check(np.array(sorted(found)))
        assert {row[0] for row in found} == set(range(space.levels[0])) or sampler.knows_better

    def test_a_space_without_genes_has_one_row(self, factory: SamplerFactory) -> None:
        """A network that is nothing but a classifier has one policy."""
        space = UpdateSpace(traced(HeadOnly))
        assert len(space) == 0
        sampler = self._make(factory, space)
        for _ in range(8):
            assert sampler.ask().tolist() == []
            tell(sampler, sampler.ask())
