"""Reading weight files from anyone, safely, and fitting them to a backbone, strictly."""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.files import require_file
from ..tensor_files import TYPES, read_safetensors, read_torch
from .heads import head_names
from .unwrapping import unwrap, without_prefixes

#: Larger files are refused unread, whatever the network.
MAX_BYTES = 1 << 30
#: How many times a network's own bytes its checkpoint may have (averaged weights, an optimizer's state, double
#: precision), and how many bytes besides.
MAX_TIMES, MAX_BESIDES = 8, 64 << 20
SUFFIXES = (".pth", ".pt", ".safetensors")
#: Most layers with weights that belong to a classifier.
_HEAD_LAYERS = 3


def most_bytes(model: nn.Module) -> int:
    """Bytes that a checkpoint of a network may have."""
    own = sum(value.nbytes for value in model.state_dict().values() if isinstance(value, Tensor))
    return min(MAX_BYTES, MAX_TIMES * own + MAX_BESIDES)


def read_checkpoint(path: Path, most: int = MAX_BYTES) -> dict[str, Tensor]:
    """Read a mapping from parameter names to tensors; nothing in the file is ever executed.

    Args:
        path: A `.safetensors` file, or a `.pth` or `.pt` file as `torch.save(model.state_dict())` writes it, or a
            training script: see `unwrap`.
        most: Bytes that it, and what it unpacks to, may have; see `most_bytes`.

    Raises:
        MissingDataError: There is no such file.
        InputError: The file is too large, damaged, or holds anything but named dense tensors.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"weights {str(path)!r}: expected 'imagenet', 'bundled' or a {', '.join(SUFFIXES)} file")
    require_file(path, "weights file")
    try:
        state = read_safetensors(path, most)[0] if path.suffix == ".safetensors" else read_torch(path, most)
    except InputError as error:
        raise InputError(f"weights {error}; save model.state_dict() alone with torch.save or safetensors") from error
    state = unwrap(state, str(path))
    if not isinstance(state, dict) or not state:
        raise InputError(f"weights {path}: holds no mapping of names to tensors; save model.state_dict()")
    for name, value in state.items():
        if not isinstance(name, str) or not _is_plain_tensor(value):
            raise InputError(
                f"weights {path}: entry {name!r} is no plain tensor ({type(value).__name__}); "
                "save model.state_dict() alone"
            )
    return dict(state)


def load_into(model: nn.Module, state: dict[str, Tensor], source: str, classes: int | None = None) -> None:
    """Fill a backbone with a checkpoint; every name and shape must match, the head's apart.

    The head (see `head_names`) keeps its initial values where the checkpoint has another number of classes or no
    classifier. Four spellings of the same network are accepted: all names may have the prefix of a wrapper (see
    `without_prefixes`); `num_batches_tracked` may be absent; a linear layer's weight may come as a 1x1
    convolution's; and convolutions may come with their batch norms folded in (see `_unfold_norms`).

    Args:
        model: The backbone, changed in place.
        state: Names and tensors, as `read_checkpoint` returns them.
        source: What to call the checkpoint in an error.
        classes: Outputs that the backbone was made with.

    Raises:
        InputError: Names, shapes or types do not match, or a value is not finite.
    """
    own = model.state_dict()
    state = without_prefixes(state, own)
    _unfold_norms(model, state)
    for name, value in state.items():
        if value.ndim == 4 and value.shape[2:] == (1, 1) and name in own and own[name].ndim == 2:
            state[name] = value.flatten(1)
    for name in _head_to_keep(model, own, state, classes):
        state[name] = own[name]
    for name in own:
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, own[name])

    problems = [
        _some("missing", [name for name in own if name not in state]),
        _some("unexpected", [name for name in state if name not in own]),
        _some("of another shape or type", list(_mismatches(own, state))),
    ]
    if any(problems):
        raise InputError(f"weights {source} do not fit this backbone: {'; '.join(filter(None, problems))}")
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(f"weights {source}: {_some('with NaN or infinity', broken)}")
    # Modules that write a version beside their entries, such as torchvision's MNASNet, refuse to load without it.
    entries = OrderedDict(state)
    vars(entries).update(_metadata=getattr(own, "_metadata", None))
    model.load_state_dict(entries)


def fits(model: nn.Module, state: dict[str, Tensor]) -> bool:
    """Whether a checkpoint has all that the model has, in the same shapes, but for heads and counters."""
    heads = tuple(f"{name}." for name in head_names(model))
    return all(
        name in state and state[name].shape == value.shape
        for name, value in model.state_dict().items()
        if not name.startswith(heads) and not name.endswith("num_batches_tracked")
    )


def _is_plain_tensor(value: object) -> bool:
    """Whether a value is a tensor that computes as any other, and whose every element is its own in memory."""
    return (
        isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and value.dtype in TYPES
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def _unfold_norms(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Where a convolution has a bias and the batch norm behind it is absent, make that norm add the bias.

    The norm gets mean 0, variance 1 - eps, scale 1 and the bias as its shift: the same function, to a
    rounding of the last digit. Its true statistics are lost, so such a norm must stay in evaluation mode.
    """
    for parent, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        prefix = f"{parent}." if parent else ""
        for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
            if not (isinstance(conv, nn.Conv2d) and conv.bias is None and isinstance(norm, nn.BatchNorm2d)):
                continue
            entries = {name: f"{prefix}{norm_name}.{name}" for name in norm.state_dict()}
            bias = f"{prefix}{conv_name}.bias"
            if bias in state and not any(name in state for name in entries.values()):
                state[entries["running_mean"]] = torch.zeros(norm.num_features)
                state[entries["running_var"]] = torch.full((norm.num_features,), 1 - norm.eps)
                state[entries["weight"]] = torch.ones(norm.num_features)
                state[entries["bias"]] = state.pop(bias)


def _head_to_keep(model: nn.Module, own: dict[str, Tensor], state: dict[str, Tensor], classes: int | None) -> list[str]:
    """Names of the entries to leave as they were made: those of a head that the checkpoint cannot fill."""
    keep: list[str] = []
    for head in head_names(model, classes):
        classifier = f"{head.partition('.')[0]}."
        within = [name for name in own if name.startswith(classifier)]
        weights = sum(own[name].ndim > 1 for name in within)
        # A part of the network with more layers, or all of it, is no classifier that a checkpoint may lack.
        if weights <= _HEAD_LAYERS and len(within) < len(own) and not any(n.startswith(classifier) for n in state):
            keep += within
            continue
        weight = state.get(f"{head}.weight")
        if weight is None or weight.shape[:1] != own[f"{head}.weight"].shape[:1]:
            keep += [name for name in own if name.startswith(f"{head}.")]
    return keep


def _mismatches(own: dict[str, Tensor], state: dict[str, Tensor]) -> Iterator[str]:
    for name, value in state.items():
        if name not in own:
            continue
        if value.shape != own[name].shape:
            yield f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        elif own[name].is_floating_point() and not value.is_floating_point():
            yield f"{name} {str(value.dtype).removeprefix('torch.')} for float"


def _some(what: str, names: list[str], limit: int = 3) -> str:
    """Say `what` of the first few names and how many there are; nothing where there are none."""
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:limit])}{', ...' if len(names) > limit else ''})"
