"""What traced code computes with: values of the two batches, and what may be asked of them."""

from collections.abc import Iterator
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from ...core.errors import UnsupportedError

#: What takes values out of a tensor, which then are no part of the graph.
_ESCAPES = frozenset({"item", "tolist", "numpy"})
#: What makes a tensor of nothing but sizes and plain values.
_CONSTANTS = frozenset({"new_zeros", "new_ones", "new_full"})
#: What stops the gradient.
_CUTS = frozenset({"detach", "detach_", "data"})


class Value(fx.Proxy):
    """A value of the traced code: a tensor, or what differs with the number of images.

    Attributes:
        pair: What it is for each of the two batches.
    """

    pair: tuple[Any, Any]

    def __init__(self, node: fx.Node, tracer: fx.Tracer, pair: tuple[Any, Any]) -> None:
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
