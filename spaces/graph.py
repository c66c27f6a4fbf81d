"""A network as a torch.fx graph: its leaves are PyTorch's own modules, its blocks the repeated units."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import fx, nn

from .errors import UnsupportedError


def symbolic_trace(model: nn.Module) -> fx.GraphModule:
    """The network as a graph.

    Raises:
        UnsupportedError: The forward pass branches on tensor values, or calls a module with parameters twice.
    """
    try:
        graph = fx.symbolic_trace(model)
    except Exception as error:  # torch.fx lets whatever the traced code raises through
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason}): make its forward free of branches on "
            "tensor values"
        ) from error
    called: set[str] = set()
    for node in graph.graph.nodes:
        if node.op == "call_module":
            name = str(node.target)
            if name in called and next(graph.get_submodule(name).parameters(), None) is not None:
                raise UnsupportedError(
                    f"module {name} is called twice: give each call its own module, since one entry of a policy cannot "
                    "describe two places"
                )
            called.add(name)
    return graph


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the repeated units: the outermost members of a container that hold two or more weighted layers.

    A container is an `nn.Sequential` (of any subclass) or `nn.ModuleList`; a plain one of these is never a unit.
    """
    names: list[str] = []

    def visit(module: nn.Module, path: str, in_container: bool) -> None:
        weighted = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules())
        if in_container and weighted >= 2 and type(module) not in (nn.Sequential, nn.ModuleList):
            names.append(path)
            return
        container = isinstance(module, nn.Sequential | nn.ModuleList)
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name, container)

    visit(model, "", False)
    return tuple(names)


def block_of(node: fx.Node, names: tuple[str, ...]) -> str | None:
    """The block that a node was traced in, or None."""
    if node.op == "call_module":
        path = str(node.target)
    else:
        stack = node.meta.get("nn_module_stack") or {}
        path = str(next(reversed(stack.values()))[0]) if stack else ""
    return next((name for name in names if path == name or path.startswith(f"{name}.")), None)


@dataclass(frozen=True)
class BlockNodes:
    """The nodes of one block: what enters it, its own, and the one whose value leaves it."""

    name: str
    input: fx.Node
    nodes: tuple[fx.Node, ...]
    output: fx.Node


def blocks(graph: fx.GraphModule, names: tuple[str, ...]) -> Iterator[BlockNodes]:
    """The blocks that the graph runs, in execution order.

    Raises:
        UnsupportedError: A block has several inputs or outputs.
    """
    members: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        name = block_of(node, names) if node.op.startswith("call_") else None
        if name is not None:
            members.setdefault(name, []).append(node)
    for name, nodes in members.items():
        inside = set(nodes)
        entering = {source for node in nodes for source in node.all_input_nodes} - inside
        leaving = [node for node in nodes if set(node.users) - inside]
        if len(entering) != 1 or len(leaving) != 1:
            raise UnsupportedError(
                f"block {name} has {len(entering)} inputs and {len(leaving)} outputs: only one of each is supported"
            )
        yield BlockNodes(name, entering.pop(), tuple(nodes), leaving[0])


def is_fused_padding(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether a node pads with zeros for convolutions alone: they can do that themselves, without a padded copy."""
    if node.op != "call_function" or node.target is not F.pad:
        return False
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    pads = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    readers = [graph.get_submodule(str(user.target)) for user in node.users if user.op == "call_module"]
    convolved = len(readers) == len(node.users) and all(isinstance(reader, nn.Conv2d) for reader in readers)
    return convolved and mode == "constant" and not value and isinstance(pads, tuple | list) and len(pads) == 4


def node_name(node: fx.Node) -> str:
    """What a policy calls a node: the module's qualified name, or the graph's name of a function call."""
    return str(node.target) if node.op == "call_module" else str(node.name)
