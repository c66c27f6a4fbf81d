"""MobileTL's accounting (Chiang et al., AAAI 2023, arXiv 2212.03246; rules read off the authors' figures).

Stored for the backward pass, in fp32 and for each layer that a gradient reaches:

- conv, linear: the input if the weight trains;
- norm: the input, and mean and variance, if the scale or the statistics train; nothing for a shift alone;
- ReLU6: two bits an element, ReLU one, a sign mask one; other activations their input;
- squeeze and excite: the map that is scaled, and the inputs of its layers, at full precision.

Memory = stored activations + 4 B a trained parameter + 1 B a frozen one. FLOPs = 2 x multiply-accumulates of convs and
linears; the backward pass leaves out the input gradient of the lowest layer that trains. The paper's own FLOPs count
element-wise operations besides, by rules that are not published.
"""

import numpy as np

from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT, Layer, Trace
from .base import Account, Accounting, Ints, input_bytes, trained_and_frozen

#: Bits an element of an exact ReLU6 and ReLU. One bit would do for ReLU6 (0 < a < 6), and does in TinyTL's accounting.
EXACT_BITS = {"relu6": 2, "relu": 1}
SIGN_BITS = 1
#: Bytes of a trained and of a frozen parameter.
TRAINED_BYTES, FROZEN_BYTES = 4, 1


def count(table: UpdateTable, batch: int) -> Account:
    """MobileTL's memory and FLOPs of N policies.

    Args:
        table: N policies.
        batch: Samples of a step.
    """
    trace = table.trace
    stored = batch * input_bytes(table)
    for row, layer in enumerate(trace.rows):
        if layer.kind == "norm":
            train = table.scale[:, row] | table.statistics[:, row]
            stored[:, row] = train * (4 * batch * layer.in_elements + 2 * 4 * layer.weights)
        elif layer.kind == "act":
            bits = np.where(table.sign[:, row], SIGN_BITS, EXACT_BITS.get(layer.op, 32))
            stored[:, row] = table.live_inputs[:, row] * -(-bits * batch * layer.in_elements // 8)
        elif layer.op == "mul":
            stored[:, row] = table.live_inputs[:, row] * (4 * batch * _largest_input(trace, layer))
    stored *= table.present
    forward, dx, dw = _macs(table)
    trained, frozen = trained_and_frozen(table)
    parts = {
        "stored_bytes": stored.sum(1),
        "trainable_parameters": trained,
        "frozen_parameters": frozen,
        "forward_flops": 2 * batch * forward,
        "backward_flops": 2 * batch * (dx + dw),
    }
    total = stored.sum(1) + TRAINED_BYTES * trained + FROZEN_BYTES * frozen
    return Account(table, stored, total, parts, macs=batch * (forward + dx + dw))


MOBILETL = Accounting(
    name="mobiletl",
    summary="stored activations (ReLU6 2 bit, sign masks 1 bit), and parameters (frozen ones 8 bit)",
    source="MobileTL, Chiang et al. 2023, arXiv 2212.03246",
    unit="MB",
    unit_bytes=10**6,
    caveat="FLOPs are those of convs and linears alone; temporaries, gradients and optimizer state are left out",
    count=count,
)


def _largest_input(trace: Trace, layer: Layer) -> int:
    shapes = (trace.input_shape if source == INPUT else trace.rows[source].out_shape for source in layer.inputs)
    return max(int(np.prod(shape)) for shape in shapes)


def _macs(table: UpdateTable) -> tuple[Ints, Ints, Ints]:
    """MACs of one sample: forward, input gradients, weight gradients, each (N,)."""
    forward = np.array([layer.macs_forward for layer in table.trace.rows], np.int64)
    per_weight = forward // np.array([max(1, layer.weights) for layer in table.trace.rows])
    dw: Ints = table.trained_weights @ per_weight
    return table.present @ forward, table.live_inputs @ forward, dw
