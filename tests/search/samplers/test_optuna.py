import numpy as np
import optuna
import pytest

from tinysearch.core.errors import InputError
from tinysearch.search.problem import Problem
from tinysearch.search.samplers import make_sampler
from tinysearch.search.samplers.base import Sampler
from tinysearch.search.samplers.optuna import OptunaSampler, _nsga2
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.space import Genotype, UpdateSpace
from tinysearch.spaces.trace import trace
from tinysearch.testing.networks import SmallNet, traced

every_sampler = pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "random"])


@pytest.fixture(scope="module")
def space(problem: Problem) -> UpdateSpace:
    return problem.space


def worth(row: Genotype) -> list[float]:
    """Three objectives that disagree."""
    return [-float(row.sum()), float(row[: len(row) // 2].sum()), float((row > 0).sum())]


def proceed(sampler: Sampler, trials: int) -> list[list[int]]:
    """Ask and tell, `trials` times."""
    rows = []
    for _ in range(trials):
        row = sampler.ask()
        rows.append(row.tolist())
        sampler.tell(row, worth(row))
    return rows


def make(name: str, space: UpdateSpace, seed: int = 0) -> Sampler:
    return make_sampler(name, space, seed, warm_up=6)


@every_sampler
def test_what_was_told_but_not_asked_for_counts(name: str, space: UpdateSpace) -> None:
    """Seeds, such as the published methods, are told without having been asked for."""
    left, right = make(name, space), make(name, space)
    for sampler, rows in ((left, space.sample(8, 1)), (right, space.sample(8, 2))):
        for row in rows:
            sampler.tell(row, worth(row))
    if name != "random":
        assert left.ask().tolist() != right.ask().tolist()
    assert space.check(left.ask()).shape == (1, len(space))


def test_an_unknown_sampler_is_refused_by_name(space: UpdateSpace) -> None:
    with pytest.raises(InputError, match="'bayes': there are auto, exact, nsga2, nsga3, gp, tpe, random"):
        make("bayes", space)


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_the_first_trials_are_those_of_the_random_sampler(name: str, space: UpdateSpace) -> None:
    random, model = proceed(make("random", space), 9), proceed(make(name, space), 9)
    assert random[:6] == model[:6]
    assert random[6:] != model[6:]


def test_the_gaussian_process_answers_by_seed_and_history() -> None:
    small = UpdateSpace(traced(SmallNet))
    asked = []
    for seed in (0, 0, 1):
        sampler = make_sampler("gp", small, seed, warm_up=2)
        for row in small.sample(3, 5):
            sampler.tell(row, worth(row))
        asked.append(small.check(sampler.ask())[0].tolist())
    assert asked[0] == asked[1]
    assert len({tuple(row) for row in asked}) == 2


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_what_was_told_is_learned_from(name: str, space: UpdateSpace) -> None:
    """The distance from a row that is best: the later draws come closer to it than random ones do."""
    best = space.levels // 2

    def late_distance(which: str) -> float:
        sampler = make_sampler(which, space, 0, warm_up=10, objectives=1)
        distances = []
        for _ in range(50):
            row = sampler.ask()
            distances.append(float(np.abs(row - best).sum()))
            sampler.tell(row, distances[-1:])
        return float(np.mean(distances[-20:]))

    assert late_distance(name) < 0.9 * late_distance("random")


def test_gene_names_sort_as_the_genes_stand(space: UpdateSpace) -> None:
    names = list(space.gene_names)
    assert names == sorted(names)
    assert len(set(names)) == len(space)


def test_gene_names_of_a_large_space_sort_too() -> None:
    large = UpdateSpace(trace(load_backbone("tiny_net:deep"), (3, 16, 16)))
    assert len(large) > 1000
    assert list(large.gene_names) == sorted(large.gene_names)


def test_crossover_takes_the_lower_part_of_one_parent_and_the_upper_part_of_the_other(space: UpdateSpace) -> None:
    """With mutation off, and every gene of one parent differing from the other's, children show where they were cut."""
    low, high = np.zeros(len(space), np.int64), space.levels - 1
    starts = {0, len(space)} | {min(segment.positions) for segment in space.segments}

    def without_mutation(seed: int) -> optuna.samplers.BaseSampler:
        sampler = _nsga2(space, seed, 8)
        return optuna.samplers.NSGAIISampler(
            seed=seed,
            population_size=8,
            crossover=sampler._child_generation_strategy._crossover,
            crossover_prob=1.0,
            mutation_prob=0.0,
        )

    sampler = OptunaSampler(space, 0, without_mutation, warm_up=0, objectives=2)
    for n in range(8):
        sampler.tell(low if n % 2 else high, [float(n % 2), float(1 - n % 2)])
    cuts, mixed = set(), 0
    for attempt in range(60):
        child = sampler.ask(attempt)
        from_low = child == low
        assert np.all(from_low | (child == high))
        places = np.flatnonzero(np.diff(from_low)) + 1
        assert len(places) <= 1
        assert set(places.tolist()) <= starts
        cuts |= set(places.tolist())
        mixed += len(places)
    assert mixed > 10
    assert len(cuts) > 1
