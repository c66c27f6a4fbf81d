"""TinyTL's accounting (Cai et al., NeurIPS 2020, arXiv 2007.11622; rules from the authors' published profiler).

One forward pass at batch 1. Before each leaf runs, the temporary of that leaf, what is stored so far and the input of a
residual block that is running are added up; the peak is the largest such sum. Then the leaf's stored size is added:

- conv, linear: the input in fp32 if the weight trains; norm: the input if the scale trains; nothing for biases, shifts;
- ReLU, ReLU6: one bit an element, and any other activation its input in fp32, in every layer as soon as there is a
  backward pass at all, below the lowest trained layer too.

The temporary is input + output // groups of a conv, input + output of a linear, the input of a norm or activation.
Memory = peak x batch + 4 B a trained parameter + 1 B a frozen one. Gradients, optimizer state, temporaries of the
backward pass, and outputs of pools and of the upsampling are left out.

The authors insert their lite residual modules for every method, full fine-tuning too, and their methods train kinds of
parameters across the whole network. So here a module that a policy does not have is inserted beside every block but
the first, and trains its weights, scales or shifts where all of its block's do.
"""

from dataclasses import replace

import numpy as np

from ...spaces.table import UpdateTable
from ...spaces.trace import Block, Trace
from .base import Account, Accounting, Bools, Ints, forward_bytes, input_bytes, trained_and_frozen

#: Bytes of a trained and of a frozen parameter.
TRAINED_BYTES, FROZEN_BYTES = 4, 1
#: Activations that store one bit an element; all others, and those alone, store their input in fp32.
BIT_MASKS = ("relu", "relu6")


def count(table: UpdateTable, batch: int, *, insert_modules: bool = True) -> Account:
    """TinyTL's memory of N policies.

    Args:
        table: N policies.
        batch: Samples of a step.
        insert_modules: Whether lite residual modules are inserted where a policy has none, as the authors do.
    """
    if insert_modules:
        table = _with_modules(table)
    stored = _stored(table) * table.present
    peak, row = _peak(table, stored)
    trained, frozen = trained_and_frozen(table)
    parameters = TRAINED_BYTES * trained + FROZEN_BYTES * frozen
    parts = {
        "trainable_parameters": trained,
        "frozen_parameters": frozen,
        "parameters_bytes": parameters,
        "peak_per_sample_bytes": peak,
        "stored_per_sample_bytes": stored.sum(1),
    }
    return Account(table, batch * stored, peak * batch + parameters, parts, peak_row=row)


TINYTL = Accounting(
    name="tinytl",
    summary="peak of one forward pass with what it stores, times the batch, and parameters (frozen ones 8 bit)",
    source="TinyTL, Cai et al. 2020, arXiv 2007.11622",
    unit="MB",
    unit_bytes=10**6,
    caveat="a module is counted beside every block but the first, whatever the policy; policies whose peak is the same "
    "temporary of the forward pass tie, however much they store",
    count=count,
)


def _with_modules(table: UpdateTable) -> UpdateTable:
    trace = table.trace
    arrays = {name: getattr(table, name).copy() for name in ("present", "inputs", "outputs", "bias", "scale")}
    result = replace(table, **arrays)
    for number, block in enumerate(trace.blocks):
        if number == 0 or not block.lite:
            continue
        missing = ~table.present[:, block.lite[0]]
        inside = [row for row, layer in enumerate(trace.layers) if layer.block == number]
        weights = _all(table.outputs > 0, [row for row in inside if trace.rows[row].kind in ("conv", "linear")])
        norms = [row for row in inside if trace.rows[row].kind == "norm"]
        scales = _all(table.scale, norms) if norms else weights
        shifts = _all(table.bias, [row for row in inside if trace.rows[row].bias])
        for row in block.lite:
            layer = trace.rows[row]
            result.present[:, row] = True
            if layer.kind == "conv":
                result.inputs[:, row] = np.where(missing, weights * layer.in_channels, table.inputs[:, row])
                result.outputs[:, row] = np.where(missing, weights * layer.out_channels, table.outputs[:, row])
            elif layer.kind == "norm":
                result.scale[:, row] = np.where(missing, scales, table.scale[:, row])
                result.bias[:, row] = np.where(missing, shifts, table.bias[:, row])
    return result


def _all(flags: Bools, rows: list[int]) -> Bools:
    result: Bools = np.all(flags[:, rows], axis=1) & bool(rows)
    return result


def _stored(table: UpdateTable) -> Ints:
    """Bytes that each row stores for one sample, (N, R)."""
    body = np.ones(len(table.trace.rows), np.bool_)
    body[table.trace.head] = False
    backward = (table.trains & table.present & body).any(1)
    stored = input_bytes(table)
    for row, layer in enumerate(table.trace.rows):
        if layer.kind == "norm":
            stored[:, row] = 4 * layer.in_elements * table.scale[:, row]
        elif layer.kind == "act":
            mask = -(-layer.in_elements // 8)
            exact = mask if layer.op in BIT_MASKS else 4 * layer.in_elements
            stored[:, row] = backward * np.where(table.sign[:, row], mask, exact)
    return stored


def _peak(table: UpdateTable, stored: Ints) -> tuple[Ints, Ints]:
    """The largest sum for one sample and the row that runs then, each (N,)."""
    trace = table.trace
    temporary = forward_bytes(table)
    held = [4 * int(np.prod(block.in_shape)) if _has_skip(trace, block) else 0 for block in trace.blocks]
    so_far = np.zeros(len(table), np.int64)
    peak, peak_row = np.zeros_like(so_far), np.zeros_like(so_far)
    for row in _order(trace):
        layer = trace.rows[row]
        now = table.present[:, row] * (so_far + temporary[row] + (held[layer.block] if layer.block >= 0 else 0))
        np.copyto(peak_row, row, where=now > peak)
        np.maximum(peak, now, out=peak)
        so_far += stored[:, row]
    return peak, peak_row


def _order(trace: Trace) -> list[int]:
    """Rows as the authors' modules run: a block's branch, then its lite residual module."""
    after = {block.output: block.lite for block in trace.blocks}
    return [row for base in range(len(trace)) for row in (base, *after.get(base, ()))]


def _has_skip(trace: Trace, block: Block) -> bool:
    """Whether the block's input is added to its output."""
    last = trace.rows[block.output]
    return last.op == "add" and block.input in last.inputs
