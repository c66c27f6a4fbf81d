"""An optimizer: RMSprop, which keeps one value for each trained one."""

from collections.abc import Iterable
from typing import Any

from tinysearch.spaces.optimizers import Optimizer


def _make(parameters: Iterable[Any], lr: float) -> Any:
    import torch

    return torch.optim.RMSprop(parameters, lr=lr)


RMSPROP = Optimizer("rmsprop", "RMSprop", 1, 5, (1e-4, 1e-3, 1e-2), _make)
