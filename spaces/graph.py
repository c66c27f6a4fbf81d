"""A network as a torch.fx graph: its leaves are PyTorch's own modules, its blocks the repeated units."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import count

import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from ..core.errors import UnsupportedError
from ..core.registry import one_line
from .capture.network import ONE_AT_A_TIME, trace_with_values
from .capture.tracer import is_leaf
from .lowering import lower

#: Activations, by the name that policies and costs know them by (and `torch.nn.functional` has them under).
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
}


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _Tracer(fx.Tracer):
    """Takes PyTorch's own modules as one node each, and what stands in for them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)


def symbolic_trace(model: nn.Module, *shapes: tuple[int, ...]) -> fx.GraphModule:
    """The network as a graph: what its forward pass does in evaluation mode.

    Args:
        model: The network, whose parameters and buffers the graph shares.
        shapes: Shape of each input without the batch. What the code asks of shapes is answered for these, and the graph
            is for these alone if it does ask. Without them it may not ask.

    Raises:
        UnsupportedError: The forward pass branches on tensor values, calls a module with parameters twice, shares a
            parameter between modules, or drops out in a way that cannot be switched.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()  # code that asks for the mode would have training's written into the graph, for good
    try:
        root, traced = trace_with_values(model, shapes) if shapes else (model, _plain_graph(model))
        graph = fx.GraphModule(root, traced, type(model).__name__)
    finally:
        for module, training in modes.items():
            module.training = training
    graph.training = model.training
    _check_parameters(graph)
    _settle_operands(graph)
    lower(graph, root)
    called: set[str] = set()
    for node in graph.graph.nodes:
        _check_dropout(node, graph)
        if node.op != "call_module":
            continue
        name = str(node.target)
        if name in called:
            node.target = name = _own_module(graph, name)
        called.add(name)
    _tell_apart(graph)
    graph.recompile()
    return graph


def _plain_graph(model: nn.Module) -> fx.Graph:
    try:
        with ONE_AT_A_TIME:
            return _Tracer().trace(model)
    except Exception as error:  # torch.fx lets whatever the traced code raises through
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced by torch.fx ({one_line(error)}): make its forward free of "
            "branches on values and shapes of tensors"
        ) from error


def _settle_operands(graph: fx.GraphModule) -> None:
    """Let modules have their input in first place, and what is overwritten be read from who overwrote it.

    What an applied policy puts in place of an operation need not overwrite anything.
    """
    for node in list(graph.graph.nodes):
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and "input" in node.kwargs:
            operands = dict(node.kwargs)
            node.args, node.kwargs = (operands.pop("input"), *node.args), operands
        if node.op.startswith("call_") and node.all_input_nodes and is_in_place(node, module):
            overwritten = node.all_input_nodes[0]
            for user in list(overwritten.users):
                if user > node:
                    user.replace_input_with(overwritten, node)


def _own_module(graph: fx.GraphModule, name: str) -> str:
    """Give a further call of a module a copy of its own; its name."""
    module = graph.get_submodule(name)
    if next(module.parameters(), None) is not None or next(module.buffers(), None) is not None:
        raise UnsupportedError(
            f"module {name} is called twice: give each call its own module, since one entry of a policy cannot "
            "describe two places"
        )
    taken = {existing for existing, _ in graph.named_modules()}
    own = next(f"{name}_{n}" for n in count(1) if f"{name}_{n}" not in taken)
    graph.add_submodule(own, deepcopy(module))
    return own


def _tell_apart(graph: fx.GraphModule) -> None:
    """Rename operations that are called as a module is: a policy knows both by their names."""
    taken = {name for name, _ in graph.named_modules()}
    for node in list(graph.graph.nodes):
        if not node.op.startswith("call_") or node.op == "call_module" or node.name not in taken:
            continue
        own = next(f"{node.name}_{n}" for n in count(1) if f"{node.name}_{n}" not in taken)
        with graph.graph.inserting_before(node):
            renamed = graph.graph.create_node(node.op, node.target, node.args, node.kwargs, name=own)
        renamed.meta = dict(node.meta)
        node.replace_all_uses_with(renamed)
        graph.graph.erase_node(node)


def _check_parameters(graph: fx.GraphModule) -> None:
    owners: dict[nn.Parameter, str] = {}
    for name, parameter in graph.named_parameters(remove_duplicate=False):
        other = owners.setdefault(parameter, name)
        if other != name:
            raise UnsupportedError(f"{other} and {name} are one parameter: give each module its own")


def _check_dropout(node: fx.Node, graph: fx.GraphModule) -> None:
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if isinstance(module, _DropoutNd) and type(module) is not nn.Dropout and module.p > 0:
            raise UnsupportedError(f"{node.target} is a {type(module).__name__}: use nn.Dropout, or a rate of 0")


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the repeated units: the outermost members of a container that hold two or more weighted layers.

    A container is an `nn.Sequential` (of any subclass), `nn.ModuleList` or `nn.ModuleDict`; a plain one of these is
    never a unit. A member that itself holds a container of several units of one kind, as the stage of a network does,
    is none either: these are.
    """
    names: list[str] = []

    def visit(module: nn.Module, path: str, in_container: bool) -> None:
        if in_container and _is_unit(module) and not any(_is_stage(inner) for inner in module.modules()):
            names.append(path)
            return
        container = isinstance(module, _CONTAINERS)
        for name, child in module.named_children():
            visit(child, f"{path}.{name}" if path else name, container)

    visit(model, "", False)
    return tuple(names)


def _is_unit(module: nn.Module) -> bool:
    weighted = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules())
    return weighted >= 2 and type(module) not in _CONTAINERS


def _is_stage(module: nn.Module) -> bool:
    """Whether a module is a container of several units of one kind."""
    units = [type(child) for child in module.children() if _is_unit(child)] if isinstance(module, _CONTAINERS) else []
    return len(units) > len(set(units))


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
    """The nodes of one block: what first enters it, its own, and the last one whose value leaves it.

    `single` says whether these are all that enters and leaves.
    """

    name: str
    input: fx.Node | None
    nodes: tuple[fx.Node, ...]
    output: fx.Node
    single: bool


def blocks(graph: fx.GraphModule, names: tuple[str, ...]) -> Iterator[BlockNodes]:
    """The blocks that the graph runs, in execution order."""
    members: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        name = block_of(node, names) if node.op.startswith("call_") else None
        if name is not None:
            members.setdefault(name, []).append(node)
    for name, nodes in members.items():
        inside = set(nodes)
        entering = [
            source
            for node in nodes
            for source in node.all_input_nodes
            if source.op != "get_attr" and "size" not in source.meta and source not in inside
        ]
        leaving = [node for node in nodes if set(node.users) - inside and "size" not in node.meta]
        single = len(set(entering)) == len(leaving) == 1
        yield BlockNodes(name, next(iter(entering), None), tuple(nodes), (leaving or nodes)[-1], single)


def reading_inputs(graph: fx.GraphModule) -> list[fx.Node]:
    """The nodes that read the network's input, its parameters as they stand, or what is computed of either.

    A layer that reads constants is none of them, but what reads that layer is.
    """
    made: set[fx.Node] = set()
    found = []
    parameters = {name for name, _ in graph.named_parameters()}
    for node in graph.graph.nodes:
        if node.op == "placeholder" or (node.op == "get_attr" and str(node.target) in parameters):
            made.add(node)
        elif "size" not in node.meta and made.intersection(node.all_input_nodes):
            made.add(node)
            found.append(node)
        elif node.op == "call_module" and any(name.startswith(f"{node.target}.") for name in parameters):
            made.add(node)
    return found


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


def operation(node: fx.Node, module: nn.Module | None) -> str:
    """The operation's name: that of the activation, or the module's or function's own in lower case."""
    if module is not None:
        return ACTIVATIONS.get(type(module), type(module).__name__.lower())
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    return {"iadd": "add", "imul": "mul"}.get(name, name)


def is_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an operation overwrites its input, so that what it returns is a tensor of its own all the same."""
    if module is not None:
        return bool(getattr(module, "inplace", False) or node.kwargs.get("inplace"))
    name = str(getattr(node.target, "__name__", node.target))
    return bool(node.kwargs.get("inplace")) or name in ("iadd", "imul") or (name[-1] == "_" and name[-2:] != "__")
