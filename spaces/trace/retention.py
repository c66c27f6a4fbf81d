"""What an operation without parameters keeps for its backward pass, observed rather than tabulated.

Each operation of a traced network is run once, alone, under `torch.autograd.graph.saved_tensors_hooks`, so the
answer is autograd's own for whatever PyTorch is installed, and holds for operations that no one listed.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from .records import Retention


def observe(
    run: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], own: Collection[int] = ()
) -> tuple[Retention, ...]:
    """Run an operation once per floating-point input and see what autograd keeps.

    Args:
        run: The operation as a function of its tensor inputs.
        inputs: The inputs of one sample, each (1, ...).
        own: Addresses of the storages of parameters and buffers, which are there anyway.

    Returns:
        One `Retention` per input: what is kept when that input needs a gradient. When several do, the union
        of their answers is kept.
    """
    return tuple(_observe_one(run, inputs, which, own) for which in range(len(inputs)))


def _observe_one(
    run: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], which: int, own: Collection[int]
) -> Retention:
    if not inputs[which].is_floating_point():
        return Retention((False,) * len(inputs))
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad():  # the caller may have switched gradients off
        leaves = [value.detach().requires_grad_(n == which) for n, value in enumerate(inputs)]
        # Clones, so that an operation that works in place neither spoils the caller's values nor changes a leaf.
        operands = [leaf.clone() for leaf in leaves]
        sources = [operand.untyped_storage().data_ptr() for operand in operands]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = run(operands)
    out = output.untyped_storage().data_ptr()
    extra = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in sources and p != out)
    return Retention(tuple(p in kept for p in sources), out in kept and out not in sources, extra)
