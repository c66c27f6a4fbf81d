"""Multiply-accumulates of operations that are no layers, as PyTorch counts them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..capture.samples import BATCHES
from .retention import Run


def count_products(runs: Sequence[Run], inputs: Sequence[Sequence[Tensor]]) -> int:
    """Multiply-accumulates of an operation for one more sample: products of matrices, attention, convolutions.

    Args:
        runs: The operation on each of two batches, of `BATCHES` samples.
        inputs: Its inputs in each.
    """
    few, more = (_count(run, values) for run, values in zip(runs, inputs, strict=True))
    return (more - few) // (BATCHES[1] - BATCHES[0])


def _count(run: Run, values: Sequence[Tensor]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        run([value.clone() for value in values])
    return int(counter.get_total_flops()) // 2


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


#: What PyTorch's own counter leaves out.
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
