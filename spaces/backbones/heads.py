"""Which layers of a network give its logits, and whether they give as many as were asked for."""

from collections.abc import Iterable

import torch
from torch import nn

from ...core.errors import InputError


def head_names(model: nn.Module, classes: int | None = None) -> tuple[str, ...]:
    """Names of the layers that give the logits: more than one where a network takes the mean of several heads.

    A network of timm says it. Of any other it is the last linear layer with that many outputs, or else convolution;
    where none has as many, or nothing was said of the classes, the last linear layer, or else convolution.

    Args:
        model: The network.
        classes: Outputs that it was made with.

    Example:
        >>> head_names(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 5), nn.Linear(5, 8)), 5)
        ('2',)
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    stated = getattr(model, "pretrained_cfg", None)
    stated = stated.get("classifier") if isinstance(stated, dict) else None
    named = tuple(name for name in ([stated] if isinstance(stated, str) else stated or ()) if name in layers)
    if named:
        return named
    fitting = {name: module for name, module in layers.items() if _outputs(module) == classes} or layers
    linears = [name for name, module in fitting.items() if isinstance(module, nn.Linear)]
    return tuple((linears or list(fitting))[-1:])


def check_classes(model: nn.Module, classes: int, backbone: str) -> None:
    """Refuse a network that was made with another number of classes than was asked for.

    It is enough that some weight is of that size: which one gives the logits is seen when the network is traced.

    Args:
        model: The network.
        classes: The number that was asked for.
        backbone: What the message calls the network.

    Raises:
        InputError: It can have no such number of outputs.
    """
    weights = [parameter.shape[:2] for parameter in model.parameters() if parameter.ndim > 1]
    if not weights or any(classes in shape for shape in weights):
        return
    last = head_names(model)
    says = f"{last[0] or 'its layer'} has {_outputs(model.get_submodule(last[0]))} outputs" if last else "no layer does"
    raise InputError(
        f"{backbone}: gives no {classes} logits ({says}): let its function take num_classes, or ask for what it gives"
    )


def silence_several_heads(model: nn.Module, heads: Iterable[str]) -> None:
    """Set fresh heads to zero where the network takes the mean of several.

    A policy trains one classifier. Another one of random weights would stay as it is and add noise to all logits, of
    the size that the trained one begins with. Whichever is trained begins from zero as well as from random values.

    Args:
        model: The network, changed in place.
        heads: Names of its heads that no checkpoint has filled.
    """
    names = tuple(heads)
    if len(names) < 2:
        return
    with torch.no_grad():
        for name in names:
            for parameter in model.get_submodule(name).parameters():
                parameter.zero_()


def _outputs(layer: nn.Module) -> int | None:
    outputs = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None)
    return outputs if isinstance(outputs, int) else None
