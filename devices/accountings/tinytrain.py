"""TinyTrain's accounting (Kwon et al., ICML 2024, arXiv 2307.09988; rules inferred from the paper's table of costs).

Memory = 16 B a trained weight (the weight, its gradient and Adam's two moments) + activations in fp32: the larger of

- the peak of inference at batch 1, the largest input + output // groups of a layer;
- what is stored for the backward pass, times the batch: the inputs of weights and norm scales that train, and of the
  activations that a gradient passes.

Compute = multiply-accumulates of the backward pass alone, of one sample: weight gradients of what trains, and input
gradients of the layers that the gradient crosses on its way to the lowest trained weight; where the first layer of the
network trains, its own too, so that full training counts exactly twice the forward pass.

Biases and norm shifts count nothing, unless nothing but they trains: then the gradient goes to the lowest of them. The
classifier is left out, since the paper compares class centroids of features.
"""

from dataclasses import replace

import numpy as np

from ...spaces.table import UpdateTable
from .base import Account, Accounting, Bools, Ints, forward_bytes, input_bytes

#: Bytes of a trained weight: itself, its gradient and Adam's two moments.
TRAINED_BYTES = 16


def count(table: UpdateTable, batch: int) -> Account:
    """TinyTrain's memory and backward compute of N policies.

    Args:
        table: N policies.
        batch: Samples of a step, which multiplies what is stored.
    """
    trace = table.trace
    weights = table.trained_weights * table.present
    weights[:, trace.head] = 0
    crossed = _towards_weights(table, weights).live_inputs
    stored = input_bytes(table)
    stored[:, trace.head] = 0
    for row, layer in enumerate(trace.rows):
        if layer.kind == "norm":
            stored[:, row] = 4 * layer.in_elements * table.scale[:, row]
        elif layer.kind == "act":
            mask = -(-layer.in_elements // 8)
            stored[:, row] = crossed[:, row] * np.where(table.sign[:, row], mask, 4 * layer.in_elements)
    stored *= batch * table.present
    inference = (forward_bytes(table) * table.present).max(1)
    activations = np.maximum(inference, stored.sum(1))
    trained: Ints = weights.sum(1)
    macs = _backward_macs(table, weights, crossed)
    parts = {
        "trained_weights": trained,
        "inference_peak_bytes": inference,
        "stored_bytes": stored.sum(1),
        "backward_macs": macs,
    }
    return Account(table, stored, TRAINED_BYTES * trained + activations, parts, macs=batch * macs)


TINYTRAIN = Accounting(
    name="tinytrain",
    summary="16 B a trained weight and peak activations in fp32; compute of the backward pass alone",
    source="TinyTrain, Kwon et al. 2024, arXiv 2307.09988",
    unit="MiB",
    unit_bytes=2**20,
    caveat="the classifier and biases are left out; the paper's ratios of 1,000 set batch 100 against batch 1",
    count=count,
)


def _towards_weights(table: UpdateTable, weights: Ints) -> UpdateTable:
    """The policies without their biases and shifts, where anything else of the body trains."""
    only_biases = ~np.any(weights > 0, axis=1)
    return replace(table, bias=table.bias & only_biases[:, None])


def _backward_macs(table: UpdateTable, weights: Ints, crossed: Bools) -> Ints:
    """Multiply-accumulates of one sample, (N,)."""
    rows = table.trace.rows
    forward = np.array([layer.macs_forward for layer in rows], np.int64)
    forward[table.trace.head] = 0
    per_weight = forward // np.array([max(1, layer.weights) for layer in rows])
    first = next(row for row, layer in enumerate(rows) if layer.macs_forward)
    crossed = crossed.copy()
    crossed[:, first] |= weights[:, first] > 0
    result: Ints = crossed @ forward + weights @ per_weight
    return result
