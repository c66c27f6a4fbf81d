"""The network's own entries in a checkpoint that a training script wrapped, without the prefixes of wrappers."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

#: Entries that hold averaged weights, in the order of preference: where a script keeps them, it is they that it judged.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
#: Entries that hold the weights as they were trained, likewise.
PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "net")
#: What wrappers (data parallel, compiled, averaged, Lightning's) put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.")
#: Levels of wrapping that are looked through.
_DEPTH = 3


def unwrap(state: object, source: str) -> object:
    """The mapping of names to tensors inside a checkpoint; the checkpoint itself if it is none that wraps one.

    Averaged weights are preferred, with a warning where there are plain ones too.

    Args:
        state: What the file holds.
        source: What to call it in the warning.

    Example:
        >>> unwrap({"epoch": 3, "state_dict": {"weight": 0}}, "w.pth")
        {'weight': 0}
    """
    for _ in range(_DEPTH):
        if not isinstance(state, Mapping):
            break
        found = [key for key in (*AVERAGED, *PLAIN) if isinstance(state.get(key), Mapping) and state[key]]
        if not found:
            break
        if found[0] in AVERAGED and found[-1] in PLAIN:
            warnings.warn(
                f"weights {source}: of its entries {' and '.join(found)} the averaged ones, {found[0]}, are taken",
                stacklevel=2,
            )
        state = state[found[0]]
    return state


def without_prefixes(state: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Names as the network has them, where a wrapper put the same prefix before all of them.

    Args:
        state: Names and tensors.
        own: The network's names. Where one of the names is among them nothing is taken off.

    Example:
        >>> without_prefixes({"module.weight": 0, "module.bias": 1}, ["weight", "bias"])
        {'weight': 0, 'bias': 1}
    """
    entries: dict[str, Any] = dict(state)
    # How many networks were averaged: written by torch.optim.swa_utils beside the network's own entries.
    if "n_averaged" not in own and len(entries) > 1:
        entries.pop("n_averaged", None)
    while entries and not any(name in own for name in entries):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in entries)), None)
        if prefix is None:
            break
        entries = {name.removeprefix(prefix): value for name, value in entries.items()}
    return entries
