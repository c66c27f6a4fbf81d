"""Encoded policies are cut until they fit, and no more than that."""

from collections.abc import Callable

import numpy as np
import pytest

from tinysearch.results.limits import Limits
from tinysearch.search.problem import Problem
from tinysearch.search.repair import Repair
from tinysearch.spaces.space import Genotype

MakeRepair = Callable[[Limits], Repair]


@pytest.fixture(scope="module")
def make(problem: Problem) -> MakeRepair:
    return lambda limits: Repair(problem.space, limits, problem.cost, problem.exact)


@pytest.fixture(scope="module")
def genotypes(problem: Problem) -> list[Genotype]:
    return list(problem.space.sample(25, 3))


def test_what_fits_is_left_as_it_is(make: MakeRepair, genotypes: list[Genotype]) -> None:
    repair = make(Limits())
    assert all(np.array_equal(repair(genotype), genotype) for genotype in genotypes)


def test_what_does_not_is_cut_until_it_does_and_never_grows(
    make: MakeRepair, genotypes: list[Genotype], problem: Problem
) -> None:
    peaks = problem.cost(problem.space.table(np.stack(genotypes))).peak_bytes
    limits = Limits(peak_bytes=float(np.median(peaks)))
    repair = make(limits)
    cut = [repair(genotype) for genotype in genotypes]
    costs = problem.exact(problem.space.table(np.stack(cut)))
    assert not limits.exceeded(costs).any()
    assert all((after <= before).all() for after, before in zip(cut, genotypes, strict=True))
    over = peaks > limits.peak_bytes
    assert [not np.array_equal(a, b) for a, b in zip(cut, genotypes, strict=True)] == over.tolist()
    assert any(genotype.any() for genotype, broke in zip(cut, over, strict=True) if broke)


def test_what_no_cut_saves_becomes_the_head_alone(make: MakeRepair, genotypes: list[Genotype]) -> None:
    assert not make(Limits(peak_bytes=0))(genotypes[0]).any()
