"""Predicted bytes against those that autograd keeps: equal, to the byte, tensor by tensor."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinysearch.devices.measure.meter import saved_tensors
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.proxylessnas import ProxylessNASMobile
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace


def _predicted(found: Trace, policy: UpdatePolicy, batch: int) -> dict[str, int]:
    """Bytes by row that keeps any."""
    rows = saved_bytes(UpdateTable.of(found, [policy]), batch)[0]
    return {found.rows[row].name: int(rows[row]) for row in found.order if rows[row]}


def _measured(model: torch.nn.Module, policy: UpdatePolicy, size: int, batch: int) -> dict[str, int]:
    """Bytes by what made the tensors that are kept."""
    torch.manual_seed(1)
    result: dict[str, int] = {}
    for tensor in saved_tensors(apply(model, policy).train(), torch.randn(batch, 3, size, size)):
        result[tensor.made_by] = result.get(tensor.made_by, 0) + tensor.bytes
    return result


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


def _policy(found: Trace, **changes: object) -> UpdatePolicy:
    content = {"backbone": found.name, "input_shape": found.input_shape, "head": found.layers[found.head].name}
    return UpdatePolicy.model_validate(content | changes)


@pytest.mark.parametrize("name", ["features.3.conv.0.0", "features.3.conv.1.0", "features.0.0"])
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_sets_of_channels_even_of_all(mobilenet, mobilenet_trace, name, axis, share):
    layer = mobilenet_trace.rows[mobilenet_trace.index[name]]
    count = max(1, int(share * (layer.in_channels if axis == "in" else layer.out_channels)))
    entry = LayerUpdate(name=name, weight=Channels(axis=axis, index=tuple(range(count))))
    policy = _policy(mobilenet_trace, layers=(entry,))
    assert _predicted(mobilenet_trace, policy, 2) == _measured(mobilenet, policy, 96, 2)


def test_the_head_alone_keeps_its_input_alone(mobilenet, mobilenet_trace):
    policy = _policy(mobilenet_trace)
    rows = saved_bytes(UpdateTable.of(mobilenet_trace, [policy]), 8)[0]
    (row,) = rows.nonzero()[0]
    assert mobilenet_trace.layers[mobilenet_trace.head].inputs == (row,)
    assert rows[row] == 8 * 1280 * 4
    assert _measured(mobilenet, policy, 96, 8) == {mobilenet_trace.layers[row].name: rows[row]}


def test_a_tensor_that_two_layers_keep_is_counted_once(small_net, small_trace):
    """The gate's product keeps the activation's output, which the pooled branch reads too."""
    names = ("blocks.0.expand.1", "blocks.0.project.1")
    norms = tuple(NormUpdate(name=name, scale=True, shift=True, statistics=True) for name in names)
    layers = tuple(LayerUpdate(name=f"blocks.0.{n}", weight="all") for n in ("project.0", "excite.fc1", "depthwise.0"))
    policy = _policy(small_trace, layers=layers, norms=norms)
    assert _predicted(small_trace, policy, 3) == _measured(small_net, policy, 50, 3)


def test_a_norm_that_only_a_module_beside_it_makes_live_keeps_nothing():
    """A block's last norm, frozen and with nothing that trains before it, while a lite residual module is added."""
    net = ProxylessNASMobile(10, norm="group")
    found = trace(net, (3, 64, 64))
    policy = methods.tinytl(found, "L")
    assert _predicted(found, policy, 2) == _measured(net, policy, 64, 2)


def test_half_the_element_size_halves_tensors_and_leaves_masks(mobilenet_trace):
    policy = _policy(mobilenet_trace, norms=(NormUpdate(name="features.1.conv.0.1", shift=True),))
    table = UpdateTable.of(mobilenet_trace, [policy])
    whole, quarter = saved_bytes(table, 1).sum(), saved_bytes(table, 1, element_bytes=1).sum()
    assert whole - quarter == 3 * 1280  # the head's input; everything else kept is one bit an element
    assert quarter > 1280


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    which=st.sampled_from(["mobilenetv2-w0.1", "mobilenetv3-small-w0.25", "mcunet-5fps", "small"]),
    size=st.integers(33, 80),
    batch=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_any_policy_of_any_network_at_any_size_equals_autograd(small_net, random_policy, which, size, batch, seed):
    model = small_net if which == "small" else load_backbone(which, num_classes=5, input_size=size)
    found = trace(model, (3, size, size))
    policy = random_policy(found, seed)
    # A batch of one at a resolution that leaves a single pixel has no batch statistics: PyTorch refuses it.
    norms = tuple(norm.model_copy(update={"statistics": norm.statistics and batch > 1}) for norm in policy.norms)
    policy = policy.model_copy(update={"norms": norms})
    assert _predicted(found, policy, batch) == _measured(model, policy, size, batch)
