"""What torch.fx would not see of a network's code while it is traced."""

import builtins
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import CheckpointFunction

from .values import Value

#: What takes sizes one by one, and does not see then that one of them is a value of the traced code.
_SIZED: dict[Any, tuple[str, ...]] = {
    torch: ("zeros", "ones", "empty", "rand", "randn"),
    Tensor: ("expand", "repeat", "reshape", "view", "new_zeros", "new_ones", "new_empty"),
}


@contextmanager
def recorded(tracer: fx.Tracer) -> Iterator[None]:
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
        return tracer.create_proxy("call_module", _added(tracer, Applied(function)), args, kwargs)

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


def _added(tracer: fx.Tracer, applied: "Applied") -> str:
    """The name of a module that is put into the one whose code runs, and so belongs to its block."""
    path = next(reversed(tracer.module_stack.values()), ("", None))[0]
    owner = tracer.root.get_submodule(path)
    own = next(name for n in count() if not hasattr(owner, name := f"_{applied.function.__name__}_{n}"))
    owner.add_module(own, applied)
    return f"{path}.{own}" if path else own


class Applied(nn.Module):
    """Applies an autograd function: in a graph a module has a name, and a function of a network's own may have none."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        return self.function.apply(*args, **kwargs)  # type: ignore[no-untyped-call]
