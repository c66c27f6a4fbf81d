"""The sparse-update study's accounting (MCUNetV3, Lin et al., NeurIPS 2022, arXiv 2206.15472).

Per convolution, the classifier left out:

- where the bias updates: one bit an output element for the mask, and 4 B an output channel;
- where the weight updates: the selected input channels' maps and the selected weight elements, 1 B each.

The classifier counts its input features, 1 B each, and no weights. Frozen weights, the peak of the forward pass and
gradients are left out. The study's networks have their norms folded: of a network with norms, the shift of the norm
that follows a convolution counts as its bias, and a norm's scale, which the study does not know, as a 1 x 1 weight.
"""

from ...spaces.table import UpdateTable
from .base import Account, Accounting, Ints, input_bytes

#: Bytes of a bias; weights and activations have one.
BIAS_BYTES = 4


def count(table: UpdateTable, batch: int) -> Account:
    """The study's memory of N policies; the study's own batch is 1.

    Args:
        table: N policies.
        batch: Samples of a step, which multiplies activations and masks.
    """
    trace = table.trace
    stored = input_bytes(table, 1)
    updated = table.trained_weights * table.present
    updated[:, trace.head] = 0
    for row, layer in enumerate(trace.rows):
        if layer.kind == "norm":
            stored[:, row] = table.scale[:, row] * layer.in_elements
        if row != trace.head and layer.bias:
            # A norm's shift is the bias of the convolution before it: as many channels, as many elements.
            stored[:, row] += table.bias[:, row] * -(-layer.out_elements // 8)
            updated[:, row] += table.bias[:, row] * (BIAS_BYTES * layer.biases)
    stored *= batch * table.present
    parameters: Ints = (updated * table.present).sum(1)
    activations: Ints = stored.sum(1)
    parts = {"weights_and_biases_bytes": parameters, "activations_and_masks_bytes": activations}
    return Account(table, stored, parameters + activations, parts)


SPARSE_UPDATE = Accounting(
    name="sparse-update",
    summary="what updates, its stored inputs and masks, in int8; frozen weights and the forward pass left out",
    source="MCUNetV3, Lin et al. 2022, arXiv 2206.15472",
    unit="kB",
    unit_bytes=1024,
    caveat="frozen weights, the forward pass's peak and gradients are left out; the study's own batch is 1",
    count=count,
)
