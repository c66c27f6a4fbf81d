"""The optimizers that a device's runtime can have: what state and traffic each costs, and how it is made.

`OPTIMIZERS` has them by name; a package adds its own by an entry point `tinysearch.optimizers`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from ..core.errors import InputError
from ..core.registry import Entry, Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer and what it costs.

    Attributes:
        name: What policies and profiles call it.
        summary: What it is, in a line.
        state: Values that it keeps for each trained one.
        traffic: Values that it reads and writes for each trained one: gradient, weight and state.
        rates: Learning rates worth trying, from low to high; the search for a policy's own begins with the middle one.
        make: Makes it of `(parameters, lr=rate)`, without weight decay.
    """

    name: str
    summary: str
    state: int
    traffic: int
    rates: tuple[float, ...]
    make: Callable[..., "torch.optim.Optimizer"]

    @property
    def default_rate(self) -> float:
        """The rate that a search for a policy's own begins with."""
        return self.rates[len(self.rates) // 2]


def _adam(parameters: Iterable[Any], lr: float) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.Adam(parameters, lr=lr)


def _sgd(parameters: Iterable[Any], lr: float) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.SGD(parameters, lr=lr)


def _sgd_momentum(parameters: Iterable[Any], lr: float) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


ADAM = Optimizer("adam", "Adam", 2, 7, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), _adam)
SGD = Optimizer("sgd", "plain SGD", 0, 3, (3e-3, 1e-2, 3e-2, 1e-1, 3e-1), _sgd)
SGD_MOMENTUM = Optimizer("sgd-momentum", "SGD with momentum 0.9", 1, 5, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), _sgd_momentum)


def _check(thing: Any) -> None:
    if not isinstance(thing, Optimizer):
        raise TypeError(f"a {type(thing).__name__}, where an Optimizer is needed")


#: All optimizers, by name.
OPTIMIZERS: Registry[Optimizer] = Registry(
    "optimizer", [Entry.of(each.name, each) for each in (ADAM, SGD, SGD_MOMENTUM)], _check
)


def _known(name: str) -> str:
    try:
        return OPTIMIZERS[name].name
    except InputError as error:
        raise ValueError(str(error)) from error


#: The name of an optimizer in a file.
OptimizerName = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra={"examples": ["adam", "sgd", "sgd-momentum"]})
]
