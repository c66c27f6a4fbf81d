"""What an operation without layers of its own keeps for its backward pass, observed rather than tabulated.

Each operation of a traced network is run alone, under `torch.autograd.graph.saved_tensors_hooks`, so the answer is
autograd's own for whatever PyTorch is installed, and holds for operations that no one listed. It is run on several
batches: some of what is kept grows with the batch and some does not, and one sample by itself may differ.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from ..capture.samples import BATCHES
from .records import Joint, Retention, Retentions

#: An operation as a function of its tensor inputs.
Run = Callable[[Sequence[Tensor]], Tensor]
#: Most groups of inputs of which every subset is observed; of more, each by itself and all together.
MOST = 4


def observe(
    runs: Sequence[Run],
    inputs: Sequence[Sequence[Tensor]],
    own: Collection[int] = (),
    groups: Sequence[Sequence[int]] | None = None,
) -> Retentions:
    """Run an operation and see what autograd keeps.

    Args:
        runs: The operation on each of some batches: of `BATCHES` samples, and then of one where that is known.
        inputs: Its inputs in each.
        own: Addresses of the storages of parameters and buffers, which are there anyway.
        groups: Positions of the inputs that need a gradient together, as they come from one place; by default each by
            itself. An input in none of them never needs one.

    Returns:
        What is kept, and what of one sample where that is something else.
    """
    groups = [(n,) for n in range(len(inputs[0]))] if groups is None else groups

    def seen(needing: Sequence[int]) -> Retention:
        few, more = (_observe(run, values, needing, own) for run, values in list(zip(runs, inputs, strict=True))[:2])
        each, rest = divmod(more.extra - few.extra, BATCHES[1] - BATCHES[0])
        # What is no sum of so much a sample and so much in any case counts as if it grew: it is seen to differ later.
        return replace(more, extra=each, fixed=max(0, few.extra - BATCHES[0] * each) + rest)

    found = _combined(seen, groups, len(inputs[0]))
    if len(runs) > len(BATCHES):
        alone = _combined(lambda needing: _observe(runs[-1], inputs[-1], needing, own), groups, len(inputs[0]))
        if _for_one(found) != alone:
            return replace(found, alone=alone)
    return found


def _combined(seen: Callable[[Sequence[int]], Retention], groups: Sequence[Sequence[int]], count: int) -> Retentions:
    """What is seen when inputs need a gradient each by itself, and in all ways together."""
    single = {tuple(group): seen(group) for group in groups}
    by_input = {position: found for group, found in single.items() for position in group}
    joints: list[Joint] = []
    sizes = range(2, len(single) + 1) if len(single) <= MOST else {len(single)} - {0, 1}
    for size in sizes:
        for subset in combinations(single, size):
            together = seen([position for group in subset for position in group])
            places, parts = tuple(group[0] for group in subset), [single[group] for group in subset]
            fewer = [joint for joint in joints if joint.instead is None and set(joint.inputs) < set(places)]
            counted: list[Retention | Joint] = [*parts, *fewer]
            expected = Retention(
                tuple(map(any, zip(*(part.inputs for part in parts), strict=True))),
                any(part.output for part in parts),
                max(each.extra for each in counted),
                max(each.fixed for each in counted),
            )
            more = together.extra >= expected.extra and together.fixed >= expected.fixed
            if not more or (together.inputs, together.output) != (expected.inputs, expected.output):
                joints.append(Joint(places, together.extra, together.fixed, together))
            elif together != expected:
                joints.append(Joint(places, together.extra, together.fixed))
    none = Retention((False,) * count)
    return Retentions(tuple(by_input.get(n, none) for n in range(count)), tuple(joints))


def _for_one(found: Retentions) -> Retentions:
    """What is predicted of a batch of one sample, as that is observed: all bytes together."""

    def one(kept: Retention) -> Retention:
        return replace(kept, extra=kept.extra + kept.fixed, fixed=0)

    joint = (
        Joint(kept.inputs, kept.extra + kept.fixed, 0, None if kept.instead is None else one(kept.instead))
        for kept in found.joint
    )
    return Retentions(tuple(map(one, found.each)), tuple(joint))


def _observe(run: Run, inputs: Sequence[Tensor], needing: Sequence[int], own: Collection[int]) -> Retention:
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # held with its history, an output would lead to what holds it, which nothing frees
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad():  # the caller may have switched gradients off
        leaves = [
            value.detach().requires_grad_(n in needing and value.is_floating_point()) for n, value in enumerate(inputs)
        ]
        # Copies, so that an operation that works in place neither spoils the caller's values nor changes a leaf.
        operands = [_copy(leaf) for leaf in leaves]
        sources = [operand.untyped_storage().data_ptr() for operand in operands]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = run(operands)
    out = output.untyped_storage().data_ptr()
    extra = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in sources and p != out)
    # What is overwritten and kept is the result, under the operand's address.
    return Retention(tuple(p in kept and p != out for p in sources), out in kept, extra)


def _copy(value: Tensor) -> Tensor:
    """A copy with the same strides: some operations make one of their own of what has gaps, such as a part of a map."""
    copy = value.clone()
    if copy.stride() == value.stride() or not value.numel():
        return copy
    span = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    return value.as_strided((span,), (1,)).clone().as_strided(value.shape, value.stride(), 0)
