"""Group norms in place of batch norms, with weight standardisation: TinyTL's networks (Cai et al. 2020, section 4.1).

Batches of 1 to 8 have no batch statistics worth the name; group norms need none.
"""

from copy import deepcopy

from torch import fx, nn

from ...core.errors import InputError
from ..graph import symbolic_trace
from ..lite_shape import NORM_GROUP
from ..standardised import StandardisedConv2d


def to_group_norm(
    model: nn.Module, channels_per_group: int = NORM_GROUP, *, weight_standardisation: bool = True
) -> nn.Module:
    """A copy of a network with a group norm in place of every batch norm.

    Scale and shift are taken over; running statistics are dropped, so that a network that was trained with batch norms
    has to be trained further. Parameter names stay as they are.

    Args:
        model: The network, unchanged by this.
        channels_per_group: Channels of a group; a norm whose channels it does not divide has one group.
        weight_standardisation: Whether convolutions whose output a group norm reads standardise their weight.

    Returns:
        The copy, with the plain attributes of the original.

    Raises:
        InputError: `channels_per_group` is not positive.
        UnsupportedError: torch.fx cannot trace the network, so that it cannot be seen which norm reads which conv.
    """
    if channels_per_group < 1:
        raise InputError(f"channels_per_group is {channels_per_group}: it must be at least 1")
    model = deepcopy(model)
    graph = symbolic_trace(model)
    convs = {name: module for name, module in model.named_modules() if type(module) is nn.Conv2d}
    norms = {name: module for name, module in model.named_modules() if type(module) is nn.BatchNorm2d}
    for node in graph.graph.nodes:
        norm = norms.get(str(node.target)) if node.op == "call_module" else None
        conv = _source(node) if norm is not None and weight_standardisation else ""
        if conv in convs:
            _replace(model, conv, StandardisedConv2d(convs[conv]))
    for name, norm in norms.items():
        _replace(model, name, _group_norm(norm, channels_per_group))
    return model


def _source(norm: fx.Node) -> str:
    """Name of the module whose output this norm alone reads; empty where it is none."""
    (source,) = norm.all_input_nodes
    return str(source.target) if source.op == "call_module" and len(source.users) == 1 else ""


def _group_norm(norm: nn.BatchNorm2d, channels_per_group: int) -> nn.GroupNorm:
    channels = norm.num_features
    groups = channels // channels_per_group if channels % channels_per_group == 0 else 1
    replacement = nn.GroupNorm(groups, channels, norm.eps, norm.affine)
    replacement._parameters = norm._parameters
    return replacement.train(norm.training)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
