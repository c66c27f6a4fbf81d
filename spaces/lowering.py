"""What networks write in many ways, as the module of torch.nn that computes the same.

A network may hold the parameters of a layer and call the function itself, as subclasses of torch.nn's layers do that
pad, normalise or activate besides. In the graph that is a function that reads `owner.weight`. Here it becomes a call of
`owner`, a module of torch.nn with the same parameters under the same names, so that all that knows torch.nn's layers
knows it. What else `owner` did stays as it is in the graph.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..core.errors import UnsupportedError

#: The tensors that a module may own, by the names that functions and modules of torch.nn share.
_TENSORS = ("weight", "bias", "running_mean", "running_var")
Values = Mapping[str, Any]
#: Axes of the weight, where a function takes others that no layer has.
_NDIM = {F.conv2d: 4, F.linear: 2}


def _conv2d(given: Values, weight: Tensor) -> nn.Module:
    outputs, inputs, height, width = weight.shape
    groups = given.get("groups", 1)
    settings = {name: given[name] for name in ("stride", "padding", "dilation") if name in given}
    return nn.Conv2d(inputs * groups, outputs, (height, width), groups=groups, **settings, device="meta")


def _linear(given: Values, weight: Tensor) -> nn.Module:
    return nn.Linear(weight.shape[1], weight.shape[0], device="meta")


def _batch_norm(given: Values, weight: Tensor) -> nn.Module:
    return nn.BatchNorm2d(len(weight), eps=given.get("eps", 1e-5), momentum=given.get("momentum", 0.1), device="meta")


def _layer_norm(given: Values, weight: Tensor) -> nn.Module:
    return nn.LayerNorm(tuple(weight.shape), eps=given.get("eps", 1e-5), device="meta")


def _group_norm(given: Values, weight: Tensor) -> nn.Module:
    return nn.GroupNorm(given["num_groups"], len(weight), eps=given.get("eps", 1e-5), device="meta")


#: For each function its arguments in order, and what makes the module.
_FUNCTIONS: dict[Callable[..., Tensor], tuple[tuple[str, ...], Callable[[Values, Tensor], nn.Module]]] = {
    F.conv2d: (("input", "weight", "bias", "stride", "padding", "dilation", "groups"), _conv2d),
    F.linear: (("input", "weight", "bias"), _linear),
    **{
        function: (tuple(inspect.signature(function).parameters), make)
        for function, make in ((F.batch_norm, _batch_norm), (F.layer_norm, _layer_norm), (F.group_norm, _group_norm))
    },
}


def lower(graph: fx.GraphModule, model: nn.Module) -> None:
    """Replace, in place, what has a module of torch.nn that computes the same.

    Args:
        graph: The graph.
        model: The network that it was made of: a graph holds no more than the parameters of what it does not call.
    """
    _lower_layers(graph, model)
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is F.dropout:
            _lower_dropout(graph, node)
        elif node.op == "call_function" and "dropout" in str(getattr(node.target, "__name__", "")):
            raise UnsupportedError(f"{node.name} drops in a way that no train() reaches: use nn.Dropout or F.dropout")
        elif node.op == "call_module" and isinstance(conv := graph.get_submodule(str(node.target)), nn.Conv2d):
            _lower_padding(graph, node, conv)


def _lower_dropout(graph: fx.GraphModule, node: fx.Node) -> None:
    """Dropout as a function, which train() and eval() do not reach."""
    given: dict[str, Any] = dict(zip(("input", "p", "training", "inplace"), node.args, strict=False))
    given |= node.kwargs
    if given.get("training", True):
        raise UnsupportedError(f"{node.name} drops in evaluation too: let it drop in training alone")
    name = free_name(graph, str(node.name))
    graph.add_submodule(name, nn.Dropout(given.get("p", 0.5)).train(graph.training))
    with graph.graph.inserting_before(node):
        call = graph.graph.call_module(name, (given["input"],))
    _put_in_place(graph, node, call)


def _lower_padding(graph: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> None:
    """Padding with anything but zeros, or by a word, as an operation in front of a convolution that pads by numbers."""
    if conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
        return
    pads = list(conv._reversed_padding_repeated_twice)  # left, right, above, below
    own = copy(conv)
    vars(own).update(padding=(0, 0), padding_mode="zeros")
    graph.set_submodule(str(node.target), own)
    if any(pads):
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        with graph.graph.inserting_before(node):
            padded = graph.graph.call_function(F.pad, (node.args[0], pads, mode))
        padded.meta = dict(node.meta)
        node.args = (padded, *node.args[1:])


def _put_in_place(graph: fx.GraphModule, node: fx.Node, call: fx.Node) -> None:
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    sources = node.all_input_nodes
    graph.graph.erase_node(node)
    for source in sources:
        if source.op == "get_attr" and not source.users:
            graph.graph.erase_node(source)


def _lower_layers(graph: fx.GraphModule, model: nn.Module) -> None:
    """Every function that reads the parameters of one module and whose other arguments are plain."""
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    for node in list(graph.graph.nodes):
        given = _arguments(node)
        owner = None if given is None else _owner(given)
        if owner is None or given is None:
            continue
        before, inner = model.get_submodule(owner), graph.get_submodule(owner).children()
        if owner in called or any(next(child.parameters(), None) is not None for child in inner):
            continue  # it is called by itself as well, or parameters would change their names
        tensors = {name: _attribute(graph, given[name]) for name in _TENSORS if isinstance(given.get(name), fx.Node)}
        others = {name for name, _ in before.named_parameters(recurse=False)} - set(tensors)
        if others or not isinstance(tensors["weight"], nn.Parameter):
            continue
        if node.target in _NDIM and tensors["weight"].ndim != _NDIM[node.target]:
            continue
        called.add(owner)
        module = _FUNCTIONS[node.target][1](given, tensors["weight"])
        if node.target is F.batch_norm:
            module = _own_batch_norm(before, module)
        _move_children(graph, owner)
        for name in _TENSORS:
            if name in tensors or getattr(module, name, None) is not None:
                setattr(module, name, tensors.get(name))
        graph.set_submodule(owner, module.train(graph.training))
        with graph.graph.inserting_before(node):
            call = graph.graph.call_module(owner, (given["input"],))
        _put_in_place(graph, node, call)


def _own_batch_norm(owner: nn.Module, made: nn.Module) -> nn.Module:
    """A batch norm of its owner's dimensions, momentum and count of batches, which the function does not tell."""
    assert isinstance(made, nn.BatchNorm2d)
    kind = nn.BatchNorm1d if isinstance(owner, nn.BatchNorm1d) else nn.BatchNorm2d
    norm = kind(made.num_features, eps=made.eps, momentum=getattr(owner, "momentum", made.momentum), device="meta")
    norm.num_batches_tracked = getattr(owner, "num_batches_tracked", None)
    return norm


def free_name(graph: fx.GraphModule, wanted: str) -> str:
    """A name that no module of a graph has."""
    taken = {name for name, _ in graph.named_modules()}
    return next(name for name in (wanted, *(f"{wanted}_{n}" for n in range(1, len(taken) + 2))) if name not in taken)


def _move_children(graph: fx.GraphModule, owner: str) -> None:
    """Give what `owner` calls a place beside it: a layer of torch.nn holds no other modules."""
    for node in graph.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith(f"{owner}."):
            name = free_name(graph, f"{owner}_{str(node.target).removeprefix(f'{owner}.').replace('.', '_')}")
            graph.add_submodule(name, graph.get_submodule(str(node.target)))
            node.target = name


def _arguments(node: fx.Node) -> Values | None:
    """The arguments of a function that can be replaced, by name; None for another node."""
    if node.op != "call_function" or node.target not in _FUNCTIONS:
        return None
    return dict(zip(_FUNCTIONS[node.target][0], node.args, strict=False)) | dict(node.kwargs)


def _owner(given: Values) -> str | None:
    """The path of the one module that owns the tensors among some arguments; None if others are no plain values."""
    nodes = {name: value for name, value in given.items() if isinstance(value, fx.Node)}
    owned = {name: value for name, value in nodes.items() if name in _TENSORS}
    if set(nodes) != {"input", *owned} or "weight" not in owned or given.get("training"):
        return None
    paths = [str(value.target).rpartition(".") for value in owned.values() if value.op == "get_attr"]
    if len(paths) < len(owned) or [path[2] for path in paths] != list(owned):
        return None
    owners = {path[0] for path in paths}
    return owners.pop() if len(owners) == 1 and "" not in owners else None


def _attribute(graph: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(graph.get_submodule(owner), name)
    assert isinstance(value, Tensor)
    return value
