"""Optuna's samplers behind the project's interface."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...spaces.space import Genotype, UpdateSpace
from .base import Sampler
from .random import RandomSampler

if TYPE_CHECKING:
    import optuna


class OptunaSampler(Sampler):
    """One of Optuna's multi-objective samplers, after a first round of `UpdateSpace.sample`.

    Args:
        space: Where policies come from.
        seed: Same seed and same history, same answers.
        make: Builds Optuna's sampler from a seed.
        warm_up: Policies told before Optuna is asked; until then they are drawn from the space, which spreads them over
            the costs, as Optuna's own first draws would not.
        objectives: Number of objectives.
    """

    def __init__(
        self,
        space: UpdateSpace,
        seed: int,
        make: "Callable[[int], optuna.samplers.BaseSampler]",
        warm_up: int,
        objectives: int,
    ) -> None:
        import optuna

        super().__init__(space, seed, warm_up=warm_up, objectives=objectives)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._make = make
        self._warm_up = warm_up
        self._study = optuna.create_study(directions=["minimize"] * objectives)
        self._first = RandomSampler(space, seed)
        self._told = 0
        names = space.gene_names  # Optuna hands parameters to a crossover in alphabetical order
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.IntDistribution(0, gene.levels - 1)
            for name, gene in zip(names, space.genes, strict=True)
        }
        # What all trials have in common: everything, in the order that Optuna keeps, but what cannot vary.
        self._common = {name: each for name, each in sorted(self._distributions.items()) if not each.single()}

    def ask(self, attempt: int = 0) -> Genotype:
        """The next encoded policy: from the space at first, then from Optuna."""
        import optuna

        if self._told < self._warm_up:
            return self._first.ask(attempt)
        trial = self._new_trial(attempt)
        # Nothing is owed to a trial that was only asked for: what was really tried comes back through `tell`.
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return np.array([trial.params[name] for name in self._distributions], dtype=np.int64)

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Add a finished trial to Optuna's study."""
        parameters = {name: int(level) for name, level in zip(self._distributions, genotype, strict=True)}
        self._study.enqueue_trial(parameters)
        trial = self._new_trial(0)
        # Optuna samples lazily, and so not at all where all parameters are given; but it is then that NSGA-II gives the
        # trial its generation, without which no trial ever becomes a parent.
        _ = trial.relative_params
        self._study.tell(trial, list(values))
        self._first.tell(genotype, values)
        self._told += 1

    def _new_trial(self, attempt: int) -> "optuna.trial.Trial":
        # A sampler made anew for each question has no state but the study and its seed.
        seed = np.random.SeedSequence([self.seed, self._told, attempt]).generate_state(1)[0]
        sampler = self._make(int(seed))
        if self._told:
            # What Optuna would find by comparing the parameters of every trial with those of every other.
            sampler.infer_relative_search_space = lambda study, trial: dict(self._common)  # type: ignore[method-assign]
        self._study.sampler = sampler
        return self._study.ask(self._distributions)


def nsga2(space: UpdateSpace, seed: int, *, warm_up: int, objectives: int) -> OptunaSampler:
    """NSGA-II, crossing policies over at the boundaries of blocks."""
    population = max(8, min(50, warm_up))
    return OptunaSampler(space, seed, lambda seed: _nsga2(space, seed, population), warm_up, objectives)


def nsga3(space: UpdateSpace, seed: int, *, warm_up: int, objectives: int) -> OptunaSampler:
    """NSGA-III, with the same crossover."""
    population = max(8, min(50, warm_up))
    return OptunaSampler(space, seed, lambda seed: _nsga3(space, seed, population), warm_up, objectives)


def tpe(space: UpdateSpace, seed: int, *, warm_up: int, objectives: int) -> OptunaSampler:
    """The multivariate tree-structured Parzen estimator."""
    return OptunaSampler(space, seed, _tpe, warm_up, objectives)


def gp(space: UpdateSpace, seed: int, *, warm_up: int, objectives: int) -> OptunaSampler:
    """A Gaussian process over the genes, and the logarithm of the expected improvement of the hypervolume."""
    return OptunaSampler(space, seed, _gp, warm_up, objectives)


def _gp(seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # users did not choose its interface
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)


def _tpe(seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0, n_ei_candidates=64)


def _nsga3(space: UpdateSpace, seed: int, population: int) -> "optuna.samplers.BaseSampler":
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # users did not choose its interface
        return optuna.samplers.NSGAIIISampler(
            seed=seed,
            population_size=population,
            crossover=_segment_crossover(space),
            mutation_prob=min(1.0, 2 / max(1, len(space))),
        )


def _nsga2(space: UpdateSpace, seed: int, population: int) -> "optuna.samplers.BaseSampler":
    import optuna

    return optuna.samplers.NSGAIISampler(
        seed=seed,
        population_size=population,
        crossover=_segment_crossover(space),
        mutation_prob=min(1.0, 2 / max(1, len(space))),
    )


def _segment_crossover(space: UpdateSpace) -> "optuna.samplers.nsgaii.BaseCrossover":
    """A crossover that takes the lower part of the network from one parent and the upper part from the other.

    Genes stand in the order of the network, and what a policy costs is decided by how deep it reaches; crossing gene
    by gene would mix a deep parent and a shallow one into a deep child nearly always.
    """
    import optuna

    # A network of one segment is not cut: its children are one parent or the other, before mutation.
    starts = np.array([min(s.positions) for s in space.segments[1:]] or [0])

    class SegmentCrossover(optuna.samplers.nsgaii.BaseCrossover):  # type: ignore[misc, unused-ignore]
        n_parents = 2

        def crossover(
            self, parents_params: Any, rng: np.random.RandomState, study: Any, search_space_bounds: Any
        ) -> Any:
            lower, upper = parents_params
            cut = rng.choice(starts)
            return np.concatenate([lower[:cut], upper[cut:]])

    return SegmentCrossover()
