"""PyTorch's attention, written out in functions that are traced."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...core.errors import UnsupportedError


def attend(
    module: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, None]:
    """What `nn.MultiheadAttention` computes in evaluation mode, written out in functions that are traced.

    The weights of the attention, which PyTorch's own can give besides, are not given.

    Raises:
        UnsupportedError: It has key or value biases, or a mask.
    """
    masked = key_padding_mask is not None or attn_mask is not None or is_causal
    if module.bias_k is not None or module.add_zero_attn or masked:
        raise UnsupportedError("attends with a mask, bias_k or add_zero_attn: write such attention out")
    if not module.batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    if module._qkv_same_embed_dim:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    if query is key is value and module._qkv_same_embed_dim:
        parts = F.linear(query, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
    else:
        biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
        parts = tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    q, k, v = (torch.unflatten(part, -1, (module.num_heads, module.head_dim)).transpose(1, 2) for part in parts)
    if module.dropout:
        weights = (q @ k.mT * module.head_dim**-0.5).softmax(-1)
        attended = F.dropout(weights, module.dropout, training=False) @ v  # it drops in training once it is traced
    else:
        attended = F.scaled_dot_product_attention(q, k, v)
    answer = module.out_proj(attended.transpose(1, 2).flatten(2))
    return answer if module.batch_first else answer.transpose(0, 1), None
