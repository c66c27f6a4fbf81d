"""The tracer: every operation that it records also runs on two batches of images, of different numbers.

What is alike for both, such as height and channels, is a plain value to the code that asks; what is not, such as the
number of images and what is computed of it, stays in the graph.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...core.errors import UnsupportedError
from ..standardised import StandardisedConv2d
from .attention import attend
from .samples import BATCHES, samples, tensors_of
from .values import Value


class Tracer(fx.Tracer):
    """Records what a network does with inputs of some shapes.

    Args:
        root: The network; what its code keeps while it runs is kept on it.
        shapes: Shape of each input without the batch.

    Attributes:
        inputs: The inputs of both batches.
    """

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
        if target is torch.detach:
            raise UnsupportedError("lets no gradient pass by detach, of which no row could tell: leave it out")
        if not self._computing and not torch.is_grad_enabled():
            raise UnsupportedError("switches gradients off for a part, which a graph does not: leave them on")
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
