"""Samplers that are no part of the project: what `auto` is measured against beside the project's own others."""

from collections.abc import Sequence

import numpy as np

from tinysearch.results.limits import Limits
from tinysearch.search.samplers.base import Sampler, SamplerTask
from tinysearch.search.samplers.random import RandomSampler
from tinysearch.spaces import methods
from tinysearch.spaces.space import RATIOS, Genotype, UpdateSpace
from tinysearch.spaces.table import UpdateTable

#: Policies of a generation of pymoo's NSGA-II, and of the evolution.
POPULATION = 20


class Pymoo(Sampler):
    """pymoo's NSGA-II (Blank and Deb 2020) over integers: simulated binary crossover, polynomial mutation.

    Its first generation is drawn as the random sampler draws, and holds the published methods that it is told before.
    """

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        super().__init__(space, seed)
        self._problem = Problem(
            n_var=len(space), n_obj=objectives, xl=np.zeros(len(space)), xu=space.levels - 1, vtype=int
        )
        self._algorithm = NSGA2(
            pop_size=POPULATION,
            sampling=IntegerRandomSampling(),
            crossover=SBX(vtype=float, repair=RoundingRepair()),
            mutation=PM(vtype=float, repair=RoundingRepair()),
        )
        self._first = RandomSampler(space, seed)
        self._told: list[tuple[Genotype, list[float]]] = []

    def ask(self, attempt: int = 0) -> Genotype:
        """A draw in the first generation; a child of the best of all that was told after that."""
        if len(self._told) < POPULATION:
            return self._first.ask(attempt)
        return self._children(attempt // POPULATION)[attempt % POPULATION]

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Remember what a policy is worth."""
        self._first.tell(genotype, values)
        self._told.append((genotype, list(values)))

    def _children(self, attempt: int) -> list[Genotype]:
        """A generation bred from the survivors of all that was told."""
        from pymoo.core.population import Population

        seed = int(np.random.SeedSequence([self.seed, len(self._told), attempt]).generate_state(1)[0])
        algorithm = self._algorithm
        algorithm.setup(self._problem, seed=seed, verbose=False)
        rows = np.array([row for row, _ in self._told], np.float64)
        told = Population.new(X=rows, F=np.array([values for _, values in self._told]))
        for individual in told:
            individual.evaluated.update(["F"])
        rng = np.random.default_rng(seed)
        survivors = algorithm.survival.do(self._problem, told, n_survive=POPULATION, random_state=rng)
        children = algorithm.mating.do(self._problem, survivors, POPULATION, algorithm=algorithm, random_state=rng)
        found = [np.clip(np.rint(row), 0, self.space.levels - 1).astype(np.int64) for row in children.get("X")]
        return found + [self._first.ask(attempt * POPULATION + n) for n in range(POPULATION - len(found))]


class Evolution(Sampler):
    """As sparse update is found (MCUNetV3, Lin et al. 2022, section 3.2): contributions, then evolution under a budget.

    The contribution of a weight is the accuracy that training it adds to training biases alone. Half of the evaluations
    measure those of the last weights, each for itself; for the other half an evolution finds the policies of the
    largest sum of contributions at rising budgets of memory. A share of a weight's channels contributes in proportion
    to its square root.
    """

    #: Evaluations that contributions are measured by, and budgets of memory.
    MEASURED, BUDGETS = 22, 22
    #: Individuals and generations.
    INDIVIDUALS, GENERATIONS = 64, 40

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        super().__init__(space, seed)
        self._weights = [position for segment in space.segments for position in segment.weights][-self.MEASURED :]
        self._norms = [position for segment in space.segments for position in segment.norms]
        self._known: dict[tuple[int, ...], float] = {}
        self._found: list[Genotype] = []

    def prepare(self, task: SamplerTask) -> None:
        """Keep what costs are asked of."""
        self._task = task

    def ask(self, attempt: int = 0) -> Genotype:
        """A weight by itself that is not measured yet, then what the evolution has found for the next budget."""
        missing = [row for row in self._probes() if tuple(row.tolist()) not in self._known]
        if missing:
            return missing[attempt % len(missing)]
        if not self._found:
            self._found = self._evolved()
        return self._found[attempt % len(self._found)]

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Remember accuracies: the first value, to be minimised."""
        self._known[tuple(genotype.tolist())] = -values[0]

    def _probes(self) -> list[Genotype]:
        """Biases alone, and with each weight; as deep as the device's limits let them be."""
        bias = np.zeros(len(self.space), np.int64)
        bias[self._norms] = 1
        depth = 0
        while self._task.limits.exceeded(self._task.cost_rows(bias[None]))[0]:
            bias[self._norms[depth]] = 0
            depth += 1
        rows = [bias]
        for position in self._weights:
            row = bias.copy()
            row[position] = len(RATIOS) - 1
            while row[position] and self._task.limits.exceeded(self._task.cost_rows(row[None]))[0]:
                row[position] -= 1
            if row[position]:
                rows.append(row)
        return rows

    def _evolved(self) -> list[Genotype]:
        bias, *probes = self._probes()
        base = self._known[tuple(bias.tolist())]
        worth = np.zeros(len(self.space))
        for row in probes:
            (position,) = np.flatnonzero(row != bias)
            worth[position] = (self._known[tuple(row.tolist())] - base) / np.sqrt(RATIOS[row[position]])
        rng = np.random.default_rng(self.seed)
        least = float(self._task.cost_rows(np.zeros((1, len(self.space)), np.int64)).memory_bytes[0])
        most = self._task.limits.peak_bytes or float(self._task.reference_point["peak_bytes"])
        levels = np.geomspace(least, most, self.BUDGETS + 1)[1:]
        return [self._best_under(float(level), bias, worth, rng) for level in levels]

    def _best_under(self, memory: float, bias: Genotype, worth: np.ndarray, rng: np.random.Generator) -> Genotype:
        shares = np.sqrt(RATIOS)
        rows = np.repeat(bias[None], self.INDIVIDUALS, 0)
        rows[:, self._weights] = rng.integers(0, len(RATIOS), (self.INDIVIDUALS, len(self._weights)))
        rows[0] = 0
        rows = self._shallower(rows, rng)
        for _ in range(self.GENERATIONS):
            costs = self._task.cost_rows(rows)
            fitness = (worth[self._weights] * shares[rows[:, self._weights]]).sum(1)
            fitness += 1e-4 * (rows[:, self._norms] > 0).sum(1)  # deeper biases where they are free
            fitness[self._task.limits.exceeded(costs) | (costs.memory_bytes > memory)] = -np.inf
            best = rows[np.argsort(-fitness, kind="stable")[: self.INDIVIDUALS // 4]]
            parents = best[rng.integers(len(best), size=(2, self.INDIVIDUALS - len(best)))]
            children = np.where(rng.random(parents[0].shape) < 0.5, *parents)
            hit = rng.random((len(children), len(self._weights))) < 0.1
            drawn = rng.integers(0, len(RATIOS), hit.shape)
            children[:, self._weights] = np.where(hit, drawn, children[:, self._weights])
            rows = np.concatenate([best, self._shallower(children, rng)])
        return best[0]

    def _shallower(self, rows: Genotype, rng: np.random.Generator) -> Genotype:
        """Biases of the last so many norms alone, of half of the rows another number."""
        for row in rows[1:]:
            if rng.random() < 0.5:
                depth = int(rng.integers(len(self._norms) + 1))
                row[self._norms] = np.arange(len(self._norms)) >= depth
        return rows


class Greedy(Sampler):
    """TinyTrain's choice (Kwon et al. 2024) at rising budgets: layers in the order of Fisher information per cost."""

    knows_better = True
    #: Budgets of memory and compute, as `methods.tinytrain` takes them.
    MEMORY = tuple(int(value) for value in np.geomspace(40e3, 4e6, 6))
    COMPUTE = (0.03, 0.08, 0.2, 0.45, 1.0)

    def prepare(self, task: SamplerTask) -> None:
        """Choose a policy at each budget."""
        support = task.support_task()  # type: ignore[attr-defined]  # the problem itself
        budgets = [(memory, compute) for memory in self.MEMORY for compute in self.COMPUTE]
        policies = [
            methods.tinytrain(task.trace, support.model, support.images, support.labels, memory=memory, compute=compute)
            for memory, compute in budgets
        ]
        every = list({policy.hash: policy for policy in policies}.values())
        fits = ~Limits.exceeded(task.limits, task.cost(UpdateTable.of(task.trace, every)))
        rows = [self.space.encode(policy) for policy, fit in zip(every, fits, strict=True) if fit]
        order = np.random.default_rng(self.seed).permutation(len(rows))
        self._rows = [rows[place] for place in order]

    def ask(self, attempt: int = 0) -> Genotype:
        """The next budget's, in any order."""
        return self._rows[attempt % len(self._rows)]

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Nothing: the choice needs no accuracies."""


PEERS: dict[str, type[Sampler]] = {"pymoo-nsga2": Pymoo, "evolution": Evolution, "greedy": Greedy}
