"""Predicted bytes against those that autograd keeps: equal, to the byte."""

from copy import deepcopy

import pytest
import torch
from tinysearch.devices.measure import measure
from tinysearch.devices.saved import saved_bytes
from tinysearch.spaces.apply import apply
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace


def _predicted(found: Trace, policy: UpdatePolicy, batch: int) -> int:
    return int(saved_bytes(UpdateTable.of(found, [policy]), batch).sum())


def _measured(model: torch.nn.Module, policy: UpdatePolicy, size: int, batch: int) -> int:
    torch.manual_seed(1)
    labels = torch.arange(batch) % 5
    images = torch.randn(batch, 3, size, size)
    return measure(apply(model, policy), images, labels, repeats=1).saved_bytes


@pytest.mark.parametrize(("size", "batch"), [(96, 1), (75, 3)])
def test_mobilenet_equals_autograd(mobilenet, random_policy, size, batch):
    found = trace(mobilenet, (3, size, size))
    for seed in range(16):
        policy = random_policy(found, seed)
        assert _predicted(found, policy, batch) == _measured(mobilenet, policy, size, batch), seed


@pytest.mark.parametrize(("size", "batch"), [(50, 2), (49, 3)])
def test_small_net_equals_autograd(small_net, random_policy, size, batch):
    found = trace(small_net, (3, size, size))
    for seed in range(40):
        policy = random_policy(found, seed)
        assert _predicted(found, policy, batch) == _measured(small_net, policy, size, batch), seed
