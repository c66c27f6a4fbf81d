"""Splitting an applied policy where training begins: a frozen prefix, run once, and a suffix that trains."""

from torch import fx, nn

from ..graph import node_name
from .convolution import convolve
from .layers import Dropout


def frozen_boundary(model: fx.GraphModule) -> str | None:
    """The last place before which nothing trains and over which a single tensor passes, one entry for each image.

    What is computed of constants alone, such as a frozen position embedding, passes over no place: both parts have it.

    Args:
        model: An applied policy.

    Returns:
        The name of the operation whose output passes, or None if something trains from the first operation on.
    """
    boundary = None
    waiting: set[fx.Node] = set()
    varying = _varying(model)
    for node in model.graph.nodes:
        if _changes(model, node):
            return boundary
        waiting = {n for n in waiting if any(user > node for user in n.users)}
        if node in varying and any(user > node for user in node.users):
            waiting.add(node)
        if waiting == {node} and node.op != "placeholder" and node.meta.get("per_image", True):
            boundary = node_name(node)
    return boundary


def prefix(model: fx.GraphModule, boundary: str) -> fx.GraphModule:
    """The part of a network from its input to the operation named `boundary`, sharing its parameters."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in model.graph.nodes:
        copies[node] = graph.node_copy(node, lambda n: copies[n])
        if _is(node, boundary):
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
    varying = _varying(model)
    (start,) = (node for node in model.graph.nodes if _is(node, boundary))
    copies[start] = graph.placeholder("features")
    constants = [node for node in model.graph.nodes if node < start and node not in varying]
    for node in (*constants, *(node for node in model.graph.nodes if node > start)):
        copies[node] = graph.node_copy(node, lambda n: copies[n])
    for node in reversed(constants):
        if not copies[node].users:
            graph.erase_node(copies[node])
    return fx.GraphModule(model, graph)


def _is(node: fx.Node, boundary: str) -> bool:
    return node.op.startswith("call_") and node_name(node) == boundary


def _varying(model: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose value depends on the network's input."""
    found: set[fx.Node] = set()
    for node in model.graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _changes(model: fx.GraphModule, node: fx.Node) -> bool:
    """Whether training changes what an operation computes, given the same input."""
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        return bool(getattr(getattr(model.get_submodule(owner), name), "requires_grad", False))
    if node.op != "call_module":
        return False
    module: nn.Module = model.get_submodule(str(node.target))
    trains = any(parameter.requires_grad for parameter in module.parameters())
    drops = isinstance(module, Dropout)
    return trains or drops or bool(getattr(module, "train_statistics", False))
