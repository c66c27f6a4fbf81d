"""A delta: what training changed of a backbone, and nothing else, as a safetensors file.

The format is described in docs/delta-format.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.formats import Format
from ..engine.origin import require_origin
from ..policy import UpdatePolicy
from ..tensor_files import read_safetensors

FORMAT = Format("tinysearch.delta", 1, "delta")
#: Larger files are refused unread: a delta is at most as large as its network, and a little.
MAX_BYTES = 400_000_000


class _Header(BaseModel):
    """What a file says of itself, as one JSON text, so that equal deltas are equal byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    classes: int = Field(ge=1)
    policy: dict[str, Any]


@dataclass(frozen=True)
class Delta:
    """A delta that was read.

    Attributes:
        policy: What was trained, with the name of the backbone.
        base_sha256: Digest of the values that training started from, by `base_digest`.
        classes: Outputs of the head.
        tensors: What changed, by its name in the applied model.
        source: Where it was read from, for messages.
    """

    policy: UpdatePolicy
    base_sha256: str
    classes: int
    tensors: Mapping[str, Tensor]
    source: str = "delta"


def delta(model: nn.Module, policy: UpdatePolicy) -> bytes:
    """What training changed, as the bytes of a safetensors file; see `UpdatePolicy.delta`."""
    origin = require_origin(model)
    if origin.policy != policy and origin.policy.hash != policy.hash:
        raise InputError(f"the model trains policy {origin.policy.hash}, not {policy.hash}: ask its own policy")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in changing(model, policy).items()}
    if broken := not_finite(tensors):
        raise InputError(f"{broken} holds NaN or infinity: the training diverged; take a lower learning rate")
    header = _Header(
        base_sha256=origin.base_sha256,
        classes=len(tensors[f"{policy.head}.weight"]),
        policy=policy.to_dict(),
    )
    from safetensors.torch import save

    return save(tensors, {FORMAT.name: FORMAT.text(header.model_dump(), compact=True)})


def changing(model: nn.Module, policy: UpdatePolicy) -> dict[str, Tensor]:
    """The tensors of an applied model that its base has not or that training changes, by name, in the model's order.

    These are the parameters that train, the statistics of batch norms that follow their batches, and the head and
    lite residual modules whole. They share memory with the model.
    """
    new = (f"{policy.head}.", *(f"{lite.block}.lite_residual." for lite in policy.lite_residuals))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for path, module in model.named_modules():
        if getattr(module, "train_statistics", False):
            names |= {f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)}
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {name: value for name, value in state.items() if name in names or name.startswith(new)}


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinity."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def read_delta(source: bytes | str | Path) -> Delta:
    """Read a delta; nothing in it is ever executed.

    Args:
        source: A path, or the bytes of a file.

    Raises:
        InputError: It is missing, too large, damaged, or no delta.
    """
    name = "delta" if isinstance(source, bytes) else str(source)
    header, tensors = _parse(source if isinstance(source, bytes) else Path(source), name)
    policy = UpdatePolicy.from_dict(header.policy, f"{name}: policy")
    head = tensors.get(f"{policy.head}.weight")
    if head is None or head.ndim not in (2, 4) or len(head) != header.classes:
        raise InputError(f"{name}: damaged: it has no head of {header.classes} classes")
    if broken := not_finite(tensors):
        raise InputError(f"{name}: {broken} holds NaN or infinity")
    return Delta(policy, header.base_sha256, header.classes, tensors, name)


def _parse(source: bytes | Path, name: str) -> tuple[_Header, dict[str, Tensor]]:
    tensors, metadata = read_safetensors(source, MAX_BYTES, name)
    text = metadata.get(FORMAT.name)
    if text is None:
        raise InputError(f"{name}: no delta: its metadata has no {FORMAT.name!r}; policy.delta(model) makes one")
    return FORMAT.read(_Header, text, f"{name}: {FORMAT.name}"), tensors
