"""The layers that policies know: those whose weight, bias, scale or shift they name."""

from typing import Any

from torch import Tensor, nn

from ...core.errors import UnsupportedError
from ..standardised import StandardisedConv2d

#: Norms, by the name that a trace knows them by.
NORMS: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "batch",
    nn.BatchNorm2d: "batch",
    nn.GroupNorm: "group",
    nn.LayerNorm: "layer",
}


def layer_of(name: str, module: nn.Module) -> dict[str, Any] | None:
    """What a trace says of a layer that policies know; None of any other module.

    Args:
        name: Its qualified name, for messages.
        module: The module.

    Raises:
        UnsupportedError: It follows the statistics of its batches in a way that no policy can switch.
    """
    if isinstance(module, nn.Conv2d) and _computes_as_one(module):
        return {
            "kind": "conv",
            "op": "conv2d",
            "weight_shape": tuple(module.weight.shape),
            "bias": module.bias is not None,
            "kernel": tuple(module.kernel_size),
            "stride": tuple(module.stride),
            "padding": tuple(module.padding),  # no word: lowering leaves none
            "dilation": tuple(module.dilation),
            "groups": module.groups,
            "standardised": isinstance(module, StandardisedConv2d),
        }
    if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        shape = tuple(module.weight.shape)
        return {"kind": "linear", "op": "linear", "weight_shape": shape, "bias": module.bias is not None}
    if type(module) in NORMS and isinstance(module.weight, Tensor):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is None:
            raise UnsupportedError(f"{name} is a batch norm without running statistics: set track_running_stats")
        return {
            "kind": "norm",
            "op": NORMS[type(module)],
            "weight_shape": tuple(module.weight.shape),
            "bias": module.bias is not None,
            "groups": getattr(module, "num_groups", 1),
        }
    if getattr(module, "running_mean", None) is not None and not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        raise UnsupportedError(
            f"{name} is a {type(module).__name__}, whose running statistics no policy knows: use BatchNorm1d or "
            "BatchNorm2d, or a norm without them"
        )
    return None


def _computes_as_one(module: nn.Conv2d) -> bool:
    return isinstance(module, StandardisedConv2d) or type(module).forward is nn.Conv2d.forward
