"""Splitting an applied policy where training begins: a frozen prefix, run once, and a suffix that trains."""

from torch import fx, nn

from ..graph import node_name
from .convolution import convolve
from .layers import Dropout


def frozen_boundary(model: fx.GraphModule) -> str | None:
    """The last place before which nothing trains and over which a single tensor passes.

    Args:
        model: An applied policy.

    Returns:
        The name of the operation whose output passes, or None if something trains from the first operation on.
    """
    boundary = None
    waiting: set[fx.Node] = set()
    for node in model.graph.nodes:
        if node.op == "call_module" and _changes(model.get_submodule(str(node.target))):
            return boundary
        waiting = {n for n in waiting if any(user > node for user in n.users)}
        if any(user > node for user in node.users):
            waiting.add(node)
        if waiting == {node} and node.op != "placeholder":
            boundary = node_name(node)
    return boundary


def prefix(model: fx.GraphModule, boundary: str) -> fx.GraphModule:
    """The part of a network from its input to the operation named `boundary`, sharing its parameters."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in model.graph.nodes:
        copies[node] = graph.node_copy(node, lambda n: copies[n])
        if node.op != "placeholder" and node_name(node) == boundary:
            module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
            output = copies[node]
            if getattr(module, "deferred", False):  # hands its computation on, but here ends the network
                output = graph.call_function(convolve, (output,))
            graph.output(output)
            break
    return fx.GraphModule(model, graph)


def suffix(model: fx.GraphModule, boundary: str) -> fx.GraphModule:
    """The rest of a network, from the output of `boundary` to the logits, sharing its parameters."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in model.graph.nodes:
        if copies:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        elif node.op != "placeholder" and node_name(node) == boundary:
            copies[node] = graph.placeholder("features")
    return fx.GraphModule(model, graph)


def _changes(module: nn.Module) -> bool:
    trains = any(parameter.requires_grad for parameter in module.parameters())
    drops = isinstance(module, Dropout)
    return trains or drops or bool(getattr(module, "train_statistics", False))
