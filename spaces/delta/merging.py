"""Merging a delta back: a plain network that answers as the trained model does."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import fx, nn

from ...core.errors import ConflictError, InputError
from ..engine.apply import apply, insert_lite_residuals
from ..engine.layers import PartialWeight
from ..engine.origin import base_digest
from ..graph import block_names, symbolic_trace
from ..lite_residual import LiteResidual
from ..policy import UpdatePolicy
from ..table import UpdateTable
from ..trace import trace
from .file import Delta, changing, read_delta

#: What `load_backbone` notes on its networks; a graph module does not take it over by itself.
_NOTES = ("backbone_name", "input_size", "normalisation")


def merge(backbone: nn.Module, delta: Delta | bytes | str | Path) -> nn.Module:
    """Put what training changed into a copy of the backbone that it was trained on.

    Every value is the trained model's, bit for bit; outputs agree to the rounding of the last digits, since layers of
    an applied model may add in another order than PyTorch's own.

    Args:
        backbone: The pretrained network, unchanged by this, with a head for any number of classes.
        delta: A path, the bytes of a file, or what `read_delta` returned.

    Returns:
        A network of PyTorch's own layers in evaluation mode, on the backbone's device: of the backbone's own class,
        or, if the policy has lite residual modules, a `torch.fx.GraphModule` with these in it. The head is the
        delta's.

    Raises:
        ConflictError: The delta was trained on other weights or another backbone.
        InputError: The delta is missing or damaged, or its tensors are not those that its policy trains.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> policy = ts.methods.last(trace)
        >>> model = ts.apply(backbone, policy)  # and train it
        >>> plain = ts.merge(backbone, policy.delta(model))
        >>> type(plain).__name__
        'MobileNetV2'
    """
    if not isinstance(delta, Delta):
        delta = read_delta(delta)
    _require_base(backbone, delta)
    _bound(backbone, delta)
    base = deepcopy(backbone)
    _fit_head(base, delta)
    trained = _trained(base, delta)
    plain = _with_lite_residuals(base, delta.policy) if delta.policy.lite_residuals else base
    slots = plain.state_dict()  # shares memory with the network
    with torch.no_grad():
        for name, value in changing(trained, delta.policy).items():
            path, _, leaf = name.rpartition(".")
            layer = trained.get_submodule(path)
            if isinstance(layer, PartialWeight) and leaf == "weight_update":
                slots[f"{path}.weight"].copy_(layer.composed_weight())
            else:
                slots[name].copy_(value)
    return plain.eval()


def _require_base(backbone: nn.Module, delta: Delta) -> None:
    digest = base_digest(backbone, delta.policy.head)
    if digest != delta.base_sha256:
        name = getattr(backbone, "backbone_name", type(backbone).__name__)
        raise ConflictError(
            f"{delta.source} was trained on {delta.policy.backbone} with weights {delta.base_sha256[:12]}; {name} as "
            f"given has {digest[:12]}: give the backbone and weights that it was trained on"
        )


def _bound(backbone: nn.Module, delta: Delta) -> None:
    """Refuse lite residual modules that the file does not fill, before memory is taken for what its policy claims."""
    if delta.policy.lite_residuals:
        UpdateTable.of(trace(backbone, delta.policy.input_shape), [delta.policy])
    for lite in delta.policy.lite_residuals:
        with torch.device("meta"):
            wanted = LiteResidual(lite.shape).state_dict()
        for name, tensor in wanted.items():
            _require_shape(delta, f"{lite.block}.lite_residual.{name}", tensor)


def _require_shape(delta: Delta, name: str, like: torch.Tensor) -> None:
    given = delta.tensors.get(name)
    if given is None or given.shape != like.shape or given.dtype != like.dtype:
        found = "nothing" if given is None else f"{tuple(given.shape)} {given.dtype}"
        raise InputError(f"{delta.source}: damaged: {name} should be {tuple(like.shape)} {like.dtype}, found {found}")


def _fit_head(base: nn.Module, delta: Delta) -> None:
    """Give the network a head of the delta's number of classes."""
    head = base.get_submodule(delta.policy.head)
    if not isinstance(head, nn.Linear | nn.Conv2d):
        raise InputError(f"{delta.source}: {delta.policy.head} is a {type(head).__name__}, no classifier")
    if len(head.weight) != delta.classes:
        fitting = deepcopy(head)
        fitting.weight = nn.Parameter(head.weight.new_zeros(delta.classes, *head.weight.shape[1:]))
        if head.bias is not None:
            fitting.bias = nn.Parameter(head.bias.new_zeros(delta.classes))
        vars(fitting)["out_channels" if isinstance(head, nn.Conv2d) else "out_features"] = delta.classes
        base.set_submodule(delta.policy.head, fitting)


def _trained(base: nn.Module, delta: Delta) -> fx.GraphModule:
    """The trained model again: the policy applied, and the delta's values in place."""
    model = apply(base, delta.policy)
    places = changing(model, delta.policy)
    for name, place in places.items():
        _require_shape(delta, name, place)
    if unknown := sorted(set(delta.tensors) - set(places)):
        raise InputError(f"{delta.source}: damaged: its policy does not train {unknown[0]}")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(delta.tensors[name])
    return model


def _with_lite_residuals(base: nn.Module, policy: UpdatePolicy) -> fx.GraphModule:
    graph = symbolic_trace(base, policy.input_shape)
    insert_lite_residuals(graph, block_names(base), policy)
    graph.graph.lint()
    graph.recompile()
    for note in _NOTES:
        if hasattr(base, note):
            setattr(graph, note, getattr(base, note))
    return graph
