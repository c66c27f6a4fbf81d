"""Blocks of programs and deltas are the same thing, and what is neither is refused."""

import pytest
import torch

import tinysearch as ts
from tinysearch.core.errors import ConflictError, InputError
from tinysearch.results.export.c.delta import block_to_delta, delta_to_block
from tinysearch.spaces import methods
from tinysearch.spaces.delta.file import read_delta
from tinysearch.testing.networks import SmallNet, make, traced


@pytest.mark.parametrize("method", ["last", "bias", "full", "tinytl-L+B"])
def test_a_delta_is_a_block_and_back(method):
    backbone, policy = make(SmallNet), methods.named(traced(SmallNet))[method]
    model = ts.apply(backbone, policy)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    delta = policy.delta(model)
    block = delta_to_block(delta, backbone)
    back = read_delta(block_to_delta(block, policy, backbone))
    for name, tensor in read_delta(delta).tensors.items():
        torch.testing.assert_close(back.tensors[name], tensor, atol=1e-6, rtol=1e-6)


def test_what_is_no_block_is_refused():
    backbone, trace = make(SmallNet), traced(SmallNet)
    policy, other = methods.last(trace), methods.bias(trace)
    block = delta_to_block(policy.delta(ts.apply(backbone, policy)), backbone)
    strange = make(SmallNet)
    with torch.no_grad():
        strange.stem[0].weight.add_(1)
    damaged = bytearray(block)
    damaged[-9] ^= 1
    newer = bytearray(block)
    newer[4] = 9
    for given, chosen, network, error, said in (
        (b"", policy, backbone, InputError, "no block of a program"),
        (b"\0" * 200, policy, backbone, InputError, "no block of a program"),
        (block[:-8], policy, backbone, InputError, "it is cut off"),
        (bytes(damaged), policy, backbone, InputError, "its checksum is wrong"),
        (bytes(newer), policy, backbone, InputError, "a block of version 9"),
        (block, other, backbone, ConflictError, "the block is of policy"),
        (block, policy, strange, ConflictError, "the block is of weights"),
    ):
        with pytest.raises(error, match=said):
            block_to_delta(given, chosen, network)
    with pytest.raises(ConflictError, match="was trained on weights"):
        delta_to_block(policy.delta(ts.apply(backbone, policy)), strange)
