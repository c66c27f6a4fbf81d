"""Samplers: what to try next, given what has been tried.

`SAMPLERS` has them by name; a package adds its own by an entry point `tinysearch.samplers`.
"""

from typing import Protocol

from ...core.registry import Entry, Registry
from ...spaces.space import UpdateSpace
from .base import Sampler, SamplerTask

__all__ = ["SAMPLERS", "Sampler", "SamplerFactory", "SamplerTask", "make_sampler"]


class SamplerFactory(Protocol):
    """Makes a sampler: a subclass of `Sampler`, or a function."""

    def __call__(self, space: UpdateSpace, seed: int, *, warm_up: int, objectives: int) -> Sampler:
        """The sampler of a space; for the arguments see `Sampler`."""
        ...


def _check(thing: object) -> None:
    if not callable(thing):
        raise TypeError(f"a {type(thing).__name__}, where a subclass of Sampler or a function that makes one is needed")


#: All samplers, by name.
SAMPLERS: Registry[SamplerFactory] = Registry(
    "sampler",
    [
        Entry.at(
            "auto",
            "search.samplers.auto:AutoSampler",
            "what a screen of all policies and the fine-tunings so far promise most of; stops where that is noise",
        ),
        Entry.at(
            "exact",
            "search.samplers.exact:ExactSampler",
            "the front of the screen under exact costs, evenly: the screen taken at its word",
        ),
        Entry.at(
            "nsga2",
            "search.samplers.optuna:nsga2",
            "Optuna's NSGA-II, crossing policies over at the boundaries of blocks",
        ),
        Entry.at("nsga3", "search.samplers.optuna:nsga3", "Optuna's NSGA-III, with the same crossover"),
        Entry.at("gp", "search.samplers.optuna:gp", "Optuna's Gaussian process; slow with many genes"),
        Entry.at("tpe", "search.samplers.optuna:tpe", "Optuna's multivariate tree-structured Parzen estimator"),
        Entry.at("random", "search.samplers.random:RandomSampler", "independent draws, spread over the range of costs"),
    ],
    _check,
)


def make_sampler(name: str, space: UpdateSpace, seed: int, *, warm_up: int, objectives: int = 3) -> Sampler:
    """A sampler by name; for the arguments see `Sampler`.

    Raises:
        InputError: There is no sampler of that name, or it cannot be made.
    """
    factory = SAMPLERS.load(name)
    with SAMPLERS.blaming(name):
        return factory(space, seed, warm_up=warm_up, objectives=objectives)
