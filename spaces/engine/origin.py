"""What an applied model was made from: its backbone, its policy and the digest of the weights it started from."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from ...core.errors import InputError
from ..policy import UpdatePolicy

_KEY = "tinysearch.origin"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where an applied model comes from. Copies of the model share it.

    Attributes:
        backbone: The network as it was given to `apply`; not a copy.
        policy: What trains.
        base_sha256: Digest of the backbone's values when the policy was applied, by `base_digest`.
    """

    backbone: nn.Module
    policy: UpdatePolicy
    base_sha256: str

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a pickled model does not take its backbone along


def base_digest(backbone: nn.Module, head: str) -> str:
    """SHA-256 over names, types, shapes and values of a network's tensors, as hex digits.

    Left out are the head, which every task has its own of and a delta holds whole, and the batch norms' counts of
    batches, which published weights may come with or without.

    Args:
        backbone: The network.
        head: Qualified name of its classifier.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        left_out = name.startswith(f"{head}.") or name.endswith(".num_batches_tracked")
        if isinstance(tensor, Tensor) and not left_out:  # a module may add anything else to its state
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def mark(model: fx.GraphModule, origin: Origin) -> None:
    """Note on an applied model what it was made from."""
    model.meta[_KEY] = origin


def find_origin(model: nn.Module) -> Origin | None:
    """What an applied model was made from; None for a model that `apply` did not make, or that was pickled since."""
    origin = model.meta.get(_KEY) if isinstance(model, fx.GraphModule) else None
    return origin if isinstance(origin, Origin) else None


def require_origin(model: nn.Module) -> Origin:
    """What an applied model was made from.

    Raises:
        InputError: `apply` did not make it.
    """
    origin = find_origin(model)
    if origin is None:
        raise InputError(
            f"this {type(model).__name__} is no applied policy: use what apply returned (a pickled copy of it does "
            "not know its backbone any more)"
        )
    return origin
