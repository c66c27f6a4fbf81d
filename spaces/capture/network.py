"""A network's forward pass as a graph, at one input size."""

from collections.abc import Sequence
from copy import deepcopy
from threading import RLock
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...core.errors import UnsupportedError
from ...core.registry import one_line
from .recording import recorded
from .tracer import Tracer, is_leaf

#: Tracing changes what Python code sees for a moment, and what a call of a module does, of all threads: whoever traces,
#: or runs a network that another thread may be tracing beside, holds this.
ONE_AT_A_TIME = RLock()


def trace_with_values(model: nn.Module, shapes: Sequence[tuple[int, ...]]) -> tuple[nn.Module, fx.Graph]:
    """What a network's forward pass does with inputs of some shapes.

    Args:
        model: The network, in evaluation mode, unchanged by this.
        shapes: Shape of each input without the batch.

    Returns:
        A copy of the network that shares its parameters, and the graph, which refers to the copy.

    Raises:
        UnsupportedError: The code depends on values of tensors or on the number of images, does not run at these
            shapes, or does what cannot be recorded; where that is, is told.
    """
    _check_traceable(model)
    tensors = {id(parameter): parameter for parameter in model.parameters()}
    try:
        copy = deepcopy(model, tensors)  # code may keep what it computes, such as position biases, on its modules
    except Exception as error:  # whatever its objects raise
        raise UnsupportedError(
            f"{type(model).__name__} cannot be copied ({one_line(error)}): hold nothing but modules, parameters, "
            "buffers and plain values"
        ) from error
    tracer = Tracer(copy, shapes)
    try:
        with ONE_AT_A_TIME, recorded(tracer), torch.enable_grad():
            traced = tracer.trace(copy)
    except Exception as error:  # whatever the network's code raises
        where = [path for path, _ in tracer.module_stack.values() if path]
        what = f"{where[-1]} of {type(model).__name__}" if where else type(model).__name__
        if isinstance(error, UnsupportedError):
            raise UnsupportedError(f"{what} {error}") from error
        if (reason := _failure(model, tracer.inputs[0])) is not None:
            raise UnsupportedError(
                f"{what} does not run on an input of shape {', '.join(map(str, shapes))}: {reason}; it should take a "
                "batch of images alone, of the size that it is built for"
            ) from error
        raise UnsupportedError(
            f"{what} cannot be traced by torch.fx ({one_line(error)}): make its forward plain tensor operations"
        ) from error
    graph = fx.Graph()  # of no tracer: a pickled graph is traced again by its own, which has no values then
    graph.output(graph.graph_copy(traced, {}))
    for node in graph.find_nodes(op="get_attr"):
        if not node.users:  # code looked at it and computed nothing of it
            graph.erase_node(node)
    return copy, graph


def _check_traceable(model: nn.Module) -> None:
    """Refuse what has no Python code to trace, or no values to trace it with."""
    for name, module in model.named_modules():
        what = name or type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(f"{what} is TorchScript, whose code cannot be seen: give the module it was made of")
        if hasattr(module, "_orig_mod"):
            raise UnsupportedError(f"{what} is compiled: give the module it was made of, which is its _orig_mod")
        if any(isinstance(each, nn.parameter.UninitializedParameter) for each in module.parameters(recurse=False)):
            raise UnsupportedError(f"{what} has no shapes yet, as it is lazy: run the network on an image first")
        if any(each.is_complex() for each in module.parameters(recurse=False)):
            raise UnsupportedError(f"{what} has complex parameters, which no device trains: use pairs of real ones")
        hooks: list[Any] = [module._backward_hooks, module._backward_pre_hooks]
        if is_leaf(module) or not name:  # of others hooks are traced, as their forward is
            hooks += [module._forward_hooks, module._forward_pre_hooks]
            if "forward" in vars(module):
                raise UnsupportedError(f"{what} had its forward replaced, which is not traced: write it into the class")
        if any(hooks):
            raise UnsupportedError(
                f"{what} has hooks, which an applied layer would not run: take them off (prune.remove, "
                "remove_weight_norm), or do in a forward what they do"
            )
        if any(each.is_meta for each in module.parameters(recurse=False)):
            raise UnsupportedError(f"{what} is on the meta device and has no values: load them first")


def _failure(model: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    """What goes wrong when a network is simply run, in one line; None where nothing does."""
    try:
        with torch.no_grad():
            model(*inputs)
    except Exception as error:
        return one_line(error)
    return None
