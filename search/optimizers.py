"""The optimizers that a device's runtime can have, and the learning rates worth trying with each."""

from collections.abc import Iterable

import torch
from torch import nn

from ..spaces.errors import InputError

#: Learning rates from low to high, by optimizer; a policy's rate is looked for among them.
RATES: dict[str, tuple[float, ...]] = {
    "adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "sgd": (3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    "sgd-momentum": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
}
#: The rate that a search for a policy's own begins with.
DEFAULT_RATE = {name: rates[len(rates) // 2] for name, rates in RATES.items()}


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """An optimizer by the name that policies and profiles have for it, without weight decay.

    Raises:
        InputError: There is no optimizer of that name.
    """
    if name not in RATES:
        raise InputError(f"no optimizer named {name!r}: there are {', '.join(RATES)}")
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9 if name == "sgd-momentum" else 0.0)
