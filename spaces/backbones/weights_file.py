"""Weights that this project writes: features without a head, with what the network and its images must be like.

A `.safetensors` file says so in its metadata, a `.pth` file in the metadata that PyTorch lets a state dict carry. Other
programs that read such a file see a plain mapping from parameter names to tensors.
"""

import io
from collections import OrderedDict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...core.errors import InputError
from ...core.files import write_atomically
from ...core.formats import Format
from ..tensor_files import read_safetensors, read_torch
from .checkpoint import MAX_BYTES
from .info import Normalisation

FORMAT = Format("tinysearch.weights", 1, "weights file")
#: What can be written; `.pt` is read as well.
SUFFIXES = (".safetensors", ".pth")


class WeightsHeader(BaseModel):
    """What a weights file says of itself.

    Attributes:
        backbone: The network that it is for, as `load_backbone` takes it.
        input_size: Side of the images that it was trained with, in pixels.
        normalisation: How these were prepared.
        origin: Where the weights are from, in words, by topic.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Annotated[str, Field(min_length=1, max_length=200)]
    input_size: Annotated[int, Field(ge=1, le=10_000)]
    normalisation: Normalisation
    origin: dict[str, str] = Field(default_factory=dict)


def check_weights_path(path: Path) -> None:
    """Refuse a path that weights cannot be written to, before anything is computed.

    Raises:
        InputError: It has another ending, or its folder is missing.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: weights are written as {' or '.join(SUFFIXES)}: let the name end so")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name a file")


def write_weights(path: Path, tensors: dict[str, Tensor], header: WeightsHeader) -> Path:
    """Write weights whole or not at all.

    Args:
        path: A `.safetensors` or `.pth` file.
        tensors: By parameter name.
        header: What the file is to say of itself.
    """
    text = FORMAT.text(header.model_dump(mode="json"), compact=True)
    # Clones, since tensors that share memory are refused by one format and written twice by the other.
    state = OrderedDict((name, value.detach().cpu().contiguous().clone()) for name, value in tensors.items())
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        return write_atomically(path, save(state, {FORMAT.name: text}))
    vars(state).update(_metadata=OrderedDict({FORMAT.name: text}))  # where nn.Module.state_dict keeps its own
    stream = io.BytesIO()
    torch.save(state, stream)
    return write_atomically(path, stream.getvalue())


def read_header(path: Path) -> WeightsHeader | None:
    """What a weights file says of itself; None for a file that another program wrote.

    Args:
        path: A file that `read_checkpoint` can read.

    Raises:
        InputError: It says something that it cannot mean.
    """
    metadata: object
    if path.suffix == ".safetensors":
        metadata = read_safetensors(path, MAX_BYTES)[1]
    else:
        metadata = getattr(read_torch(path, MAX_BYTES), "_metadata", None)
    text = metadata.get(FORMAT.name) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return None
    return FORMAT.read(WeightsHeader, text, f"weights {path}")
