"""Tracing a network with values at hand: what its code asks of shapes is answered, at one input size.

torch.fx records operations and knows no values, so code that looks at a size stops it. Here every operation also runs
on two batches of random images, of different numbers. What is alike for both, such as height and channels, is a plain
value to the code that asks; what is not, such as the number of images and what is computed of it, stays in the graph.
"""

import builtins
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from operator import getitem
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils.checkpoint import CheckpointFunction

from ..core.errors import UnsupportedError
from ..core.registry import one_line
from .standardised import StandardisedConv2d

#: Images in each of the two batches. One image would let operations pass that more do not.
BATCHES = (2, 3)
#: What takes values out of a tensor, which then are no part of the graph.
_ESCAPES = frozenset({"item", "tolist", "numpy"})
#: What makes a tensor of nothing but sizes and plain values.
_CONSTANTS = frozenset({"new_zeros", "new_ones", "new_full"})

#: What stops the gradient.
_CUTS = frozenset({"detach", "detach_", "data"})
#: What takes sizes one by one, and does not see then that one of them is a value of the traced code.
_SIZED: dict[Any, tuple[str, ...]] = {
    torch: ("zeros", "ones", "empty", "rand", "randn"),
    Tensor: ("expand", "repeat", "reshape", "view", "new_zeros", "new_ones", "new_empty"),
}


def samples(model: nn.Module, shapes: Sequence[tuple[int, ...]], batch: int) -> tuple[Tensor, ...]:
    """Random inputs, the same at every call, of the type and on the device of a network's parameters.

    Args:
        model: The network.
        shapes: Shape of each input without the batch.
        batch: How many images.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, *shape, generator=generator).to(like) for shape in shapes)


def trace_with_values(model: nn.Module, shapes: Sequence[tuple[int, ...]]) -> tuple[nn.Module, fx.Graph]:
    """What a network's forward pass does with inputs of some shapes.

    Args:
        model: The network, in evaluation mode, unchanged by this.
        shapes: Shape of each input without the batch.

    Returns:
        A copy of the network that shares its parameters and buffers, and the graph, which refers to the copy.

    Raises:
        UnsupportedError: The code depends on values of tensors or on the number of images, does not run at these
            shapes, or does what cannot be recorded; where that is, is told.
    """
    _check_copyable(model)
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    try:
        copy = deepcopy(model, tensors)  # code may keep what it computes, such as position biases, on its modules
    except Exception as error:  # whatever its objects raise
        raise UnsupportedError(
            f"{type(model).__name__} cannot be copied ({one_line(error)}): hold nothing but modules, tensors and plain "
            "values, and take pruning and weight_norm of torch.nn.utils off (prune.remove, remove_weight_norm) or use "
            "those of torch.nn.utils.parametrizations"
        ) from error
    tracer = _Tracer(copy, shapes)
    try:
        with _recorded(tracer), torch.enable_grad():
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


def _check_copyable(model: nn.Module) -> None:
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


class Value(fx.Proxy):
    """A value of the traced code: a tensor, or what differs with the number of images.

    Attributes:
        pair: What it is for each of the two batches.
    """

    pair: tuple[Any, Any]
    tracer: "_Tracer"

    def __init__(self, node: fx.Node, tracer: "_Tracer", pair: tuple[Any, Any]) -> None:
        super().__init__(node, tracer)
        self.pair = pair

    def __getattr__(self, k: str) -> Any:
        attribute = getattr(self.pair[0], k)
        if k in _CUTS and isinstance(self.pair[0], Tensor):
            raise UnsupportedError(f"lets no gradient pass by {k}, of which no row could tell: leave it out")
        if not callable(attribute):
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        if k in _CONSTANTS:
            return lambda *args, **kwargs: self._made(k, args, kwargs)
        if k in _ESCAPES:
            raise UnsupportedError(f"takes values out of tensors by {k}(), which no graph could follow: use tensors")
        return lambda *args, **kwargs: self.tracer.create_proxy("call_method", _method(k, args), (self, *args), kwargs)

    def _made(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A new tensor: a plain one, into which code may write, unless its size differs with the number of images."""
        sizes = (*args, *args[0]) if args and isinstance(args[0], tuple | list) else args
        if any(type(size) is Value for size in sizes):
            return self.tracer.create_proxy("call_method", method, (self, *args), kwargs)
        return getattr(self.pair[0], method)(*args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        return (self.tracer.create_proxy("call_function", getitem, (self, place), {}) for place in range(len(self)))

    def __setitem__(self, place: Any, value: Any) -> None:
        raise UnsupportedError(
            "assigns to a part of a tensor, which no row could tell of: use torch.where or torch.cat"
        )

    def __len__(self) -> int:
        return int(self._alike((len(self.pair[0]), len(self.pair[1]))))

    def __bool__(self) -> bool:
        return bool(self._alike(self.pair))

    def __index__(self) -> int:
        return int(self._alike(self.pair))

    def __int__(self) -> int:
        return int(self._alike(self.pair))

    def __float__(self) -> float:
        return float(self._alike(self.pair))

    def _alike(self, values: tuple[Any, Any]) -> Any:
        """What both values are, where they are plain and alike."""
        if isinstance(values[0], Tensor):
            raise UnsupportedError("branches on values of tensors, which no graph could follow: use torch.where")
        if values[0] != values[1]:
            raise UnsupportedError(
                "depends on the number of images in a way that no graph could follow: let it use sizes in shapes alone"
            )
        return values[0]


def _method(name: str, args: tuple[Any, ...]) -> str:
    """What a method is recorded as: a view of a shape, which images in another memory format have not, as reshaping."""
    return "reshape" if name == "view" and not any(isinstance(arg, torch.dtype) for arg in args) else name


@contextmanager
def _recorded(tracer: "_Tracer") -> Iterator[None]:
    """Let Python code see values as what they are, and record what torch.fx would not.

    That is autograd functions, into whose forward pass torch.fx goes and so loses their backward pass, and functions
    and methods of constants that take sizes one by one, which look at none but the first.
    """
    isinstance_, apply = builtins.isinstance, torch.autograd.Function.__dict__["apply"].__func__

    def seen(value: Any, kinds: Any) -> bool:
        return isinstance_(value, kinds) or (type(value) is Value and isinstance_(value.pair[0], kinds))

    def applied(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(type(each) is Value for each in args):
            return apply(function, *args, **kwargs)
        if function is CheckpointFunction:
            run, _, *operands = args
            return run(*operands)
        name = tracer.get_fresh_qualname(f"_{function.__name__}")
        setattr(tracer.root, name, Applied(function))
        return tracer.create_proxy("call_module", name, args, kwargs)

    def sized(owner: Any, name: str) -> Callable[..., Any]:
        own = getattr(owner, name)
        kind, target = ("call_function", own) if owner is torch else ("call_method", name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if any(type(each) is Value for each in args):
                return tracer.create_proxy(kind, target, args, kwargs)
            return own(*args, **kwargs)

        return call

    with ExitStack() as stack:
        # Functions that networks mark as not to be traced are: their layers are found then, and the sizes are at hand.
        stack.enter_context(patch.object(fx._symbolic_trace, "_wrapped_fns_to_patch", {}, create=True))
        stack.enter_context(patch.object(builtins, "isinstance", seen))
        stack.enter_context(patch.object(torch.autograd.Function, "apply", classmethod(applied)))
        # What a checkpoint does before and after it runs its part, which is to keep its inputs and nothing else.
        around = "_checkpoint_without_reentrant_generator"
        stack.enter_context(patch.object(torch.utils.checkpoint, around, lambda *_, **__: iter((None,)), create=True))
        for owner, names in _SIZED.items():
            for name in names:
                stack.enter_context(patch.object(owner, name, sized(owner, name)))
        yield


class Applied(nn.Module):
    """Applies an autograd function: in a graph a module has a name, and a function of a network's own may have none."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        return self.function.apply(*args, **kwargs)  # type: ignore[no-untyped-call]


class _Tracer(fx.Tracer):
    def __init__(self, root: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.inputs = [samples(root, shapes, batch) for batch in BATCHES]
        self._names = {id(tensor): name for name, tensor in (*root.named_buffers(), *root.named_parameters())}
        self._computing = False

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One placeholder for each input that there is a shape for; other arguments keep their defaults."""
        named = [
            name
            for name, parameter in list(inspect.signature(root_fn).parameters.items())[1:]
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        count = len(self.inputs[0])
        names = [*named, *(f"input_{n}" for n in range(len(named), count))][:count]
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]

    def create_arg(self, a: Any) -> Any:
        """As torch.fx has it, to whom our values look like tensors."""
        return a.node if type(a) is Value else super().create_arg(a)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Record an operation and run it: what comes of it."""
        if not self._computing and not torch.is_grad_enabled():
            raise UnsupportedError("switches gradients off for a part, which a graph does not: use detach()")
        if not self._computing and any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            raise UnsupportedError("runs a part in autocast, which a graph does not: leave that to who calls it")
        values = (self._run(kind, target, args, kwargs, 0), self._run(kind, target, args, kwargs, 1))
        node = super().create_proxy(kind, target, args, kwargs, *rest, **more).node
        first, second = values
        if tensors_of(first):
            node.meta["per_image"] = all(
                isinstance(value, Tensor) and value.shape[:1] == (batch,)
                for value, batch in zip(values, BATCHES, strict=True)
            )
            return Value(node, self, values)
        if type(first) is type(second) and first == second:
            self.graph.erase_node(node)
            return first
        node.meta["size"] = True
        value = Value(node, self, values)
        return tuple(value) if isinstance(first, tuple) else value

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Parameters and buffers that code takes from its module, as values."""
        name = None if self._computing or not isinstance(attr_val, Tensor) else self._names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Attention is written out; what runs inside one of our own values' operations is not recorded."""
        if self._computing:
            return m.forward(*args, **kwargs)
        if isinstance(m, nn.MultiheadAttention):
            return super().call_module(m, lambda *a, **k: attend(m, *a, **k), args, kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """PyTorch's own modules that hold no others, and what stands in for them."""
        return is_leaf(m)

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any, which: int) -> Any:
        if kind == "placeholder":
            return self.inputs[which][sum(node.op == "placeholder" for node in self.graph.nodes)]

        def value_of(argument: Any) -> Any:
            return argument.pair[which] if type(argument) is Value else argument

        args, kwargs = fx.node.map_aggregate((tuple(args), dict(kwargs)), value_of)
        self._computing = True
        try:
            with torch.no_grad():
                return self._value(kind, target, args, kwargs)
        finally:
            self._computing = False

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "get_attr":
            owner, _, own = target.rpartition(".")
            return getattr(self.root.get_submodule(owner), own)
        if kind == "call_function":
            return target(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return self.root.get_submodule(target).forward(*args, **kwargs)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one node of a graph: PyTorch's own that hold no others, and what stands in for them."""
    own = isinstance(module, StandardisedConv2d) or module.__module__.startswith(("torch.nn", "torch.ao.nn"))
    return own and next(module.children(), None) is None and not isinstance(module, nn.Sequential)


def attend(
    module: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, None]:
    """What `nn.MultiheadAttention` computes in evaluation mode, written out in functions that are traced.

    The weights of the attention, which PyTorch's own can give besides, are not given.

    Raises:
        UnsupportedError: It has key or value biases, or a padding mask.
    """
    if module.bias_k is not None or module.add_zero_attn or key_padding_mask is not None:
        raise UnsupportedError("attends with a padding mask, bias_k or add_zero_attn: use none of these")
    if not module.batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    if module._qkv_same_embed_dim:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    if query is key is value and module._qkv_same_embed_dim:
        parts = F.linear(query, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
    else:
        biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
        parts = tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    q, k, v = (torch.unflatten(part, -1, (module.num_heads, module.head_dim)).transpose(1, 2) for part in parts)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal and attn_mask is None)
    answer = module.out_proj(attended.transpose(1, 2).flatten(2))
    return answer if module.batch_first else answer.transpose(0, 1), None


def tensors_of(value: object) -> list[Tensor]:
    """The tensors in a value, in whatever tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in tensors_of(each)] if isinstance(value, tuple | list) else []
