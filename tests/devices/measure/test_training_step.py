"""What a user sees of a training step: what autograd kept, tensor by tensor, beside the prediction."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.devices.measure import measure
from tinysearch.devices.measure.meter import SavedTensor, saved_tensors
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.trace import trace


def _batch(count, size):
    torch.manual_seed(2)
    return torch.randn(count, 3, size, size), torch.arange(count) % 5


def _policy(found, **changes):
    content = {"backbone": found.name, "input_shape": found.input_shape, "head": found.layers[found.head].name}
    return UpdatePolicy.model_validate(content | changes)


def test_every_tensor_is_named_by_who_made_it_and_who_keeps_it(small_net, small_trace):
    """Batch 2 at 50 px: the stem leaves 25 x 25, its pool 12 x 12, and the second block 6 x 6."""
    layers = (
        LayerUpdate(name="blocks.1.project.0", weight=Channels(axis="in", index=(0, 5, 7))),
        LayerUpdate(name="hidden", weight="all"),
    )
    policy = _policy(small_trace, layers=layers, norms=(NormUpdate(name="blocks.2.depthwise.1", scale=True),))
    result = measure(apply(small_net, policy), *_batch(2, 50), repeats=1)
    made = {(tensor.made_by, tensor.shape): tensor for tensor in result.tensors}
    # A copy of three channels, what a norm reads, what the next layer reads, and a gate's mask beside its output.
    assert made["blocks.1.project.0", (2, 3, 6, 6)].bytes == 2 * 3 * 6 * 6 * 4
    assert made["blocks.2.depthwise.0", (2, 60, 6, 6)].name == "blocks.2.depthwise.1"
    assert made["norm", (2, 20)] == SavedTensor("hidden", "norm", (2, 20), "float32", 2 * 20 * 4)
    assert result.as_predicted
    gate = {layer.name: layer for layer in result.by_layer()}["blocks.2.excite.gate"]
    assert {(tensor.name, tensor.dtype, tensor.bytes) for tensor in gate.tensors} == {
        ("blocks.2.excite.gate", "uint8", 2 * 8),  # 60 bits a sample
        (next(layer.name for layer in small_trace if layer.op == "mul" and layer.block == 2), "float32", 2 * 60 * 4),
    }
    assert gate.predicted_bytes == gate.measured_bytes == 496


def test_prediction_and_measurement_add_up(small_net, small_trace, random_policy):
    for seed in (2, 5, 11):
        result = measure(apply(small_net, random_policy(small_trace, seed)), *_batch(3, 49), repeats=1)
        layers = result.by_layer()
        assert result.as_predicted
        assert result.saved_bytes == result.predicted_bytes == sum(layer.measured_bytes for layer in layers)
        assert result.predicted_bytes == sum(layer.predicted_bytes for layer in layers)
        assert [tensor for layer in layers for tensor in layer.tensors if tensor not in result.tensors] == []
        assert sum(len(layer.tensors) for layer in layers) == len(result.tensors)


def test_what_a_user_unfreezes_by_hand_shows_as_a_difference(mobilenet, mobilenet_trace):
    model = apply(mobilenet, _policy(mobilenet_trace))
    model.get_parameter("features.18.0.weight").requires_grad_(True)
    result = measure(model, *_batch(2, 96), repeats=1)
    assert not result.as_predicted
    assert result.saved_bytes > result.predicted_bytes
    different = {layer.name for layer in result.by_layer() if layer.predicted_bytes != layer.measured_bytes}
    assert "features.17.conv.3" in different  # what that conv reads


def test_half_precision_is_predicted_in_its_own_size(mobilenet, mobilenet_trace):
    policy = _policy(mobilenet_trace, layers=(LayerUpdate(name="features.18.0", weight="all"),))
    images, labels = _batch(2, 64)
    whole = measure(apply(mobilenet, policy), images, labels, repeats=1)
    half = measure(apply(mobilenet, policy).to(torch.bfloat16), images.to(torch.bfloat16), labels, repeats=1)
    assert whole.as_predicted
    assert half.as_predicted
    assert whole.saved_bytes / 2 < half.saved_bytes < whole.saved_bytes  # masks stay as they are


def test_the_prediction_survives_copies_and_channels_last(mobilenet, mobilenet_trace, random_policy):
    model = deepcopy(apply(mobilenet, random_policy(mobilenet_trace, 3))).to(memory_format=torch.channels_last)
    images, labels = _batch(2, 64)
    result = measure(model, images.to(memory_format=torch.channels_last), labels, repeats=1)
    assert result.as_predicted


def test_any_other_model_is_measured_without_a_prediction():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    result = measure(model, *_batch(2, 8), repeats=1)
    assert (result.predicted, result.predicted_bytes, result.as_predicted) == (None, None, False)
    # The batch is left out; PyTorch's ReLU keeps its output, which the pool keeps too, and the classifier its input.
    assert [(t.name, t.shape) for t in result.tensors] == [("1", (2, 4, 6, 6)), ("4", (2, 4))]
    assert result.saved_bytes == 2 * 4 * 36 * 4 + 2 * 4 * 4
    (layer,) = result.by_layer()
    assert (layer.predicted_bytes, layer.measured_bytes) == (None, result.saved_bytes)


def test_a_graph_run_operation_by_operation_keeps_what_the_whole_keeps(small_net, small_trace, random_policy):
    for seed in range(6):
        model = apply(small_net, random_policy(small_trace, seed)).train()
        images, _ = _batch(2, 50)
        own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), images)}
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images)
        whole = sorted(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own)
        assert sorted(tensor.bytes for tensor in saved_tensors(model, images)) == whole


def test_a_model_of_which_nothing_trains_is_refused(mobilenet):
    with pytest.raises(InputError, match="apply a policy first"):
        measure(deepcopy(mobilenet).requires_grad_(False), *_batch(2, 96))
    with pytest.raises(InputError, match="no optimizer named 'rmsprop'"):
        measure(mobilenet, *_batch(2, 96), optimizer="rmsprop")


def test_the_prediction_is_of_the_images_shape_not_the_policys(mobilenet, mobilenet_trace):
    result = measure(apply(mobilenet, _policy(mobilenet_trace)), *_batch(3, 40), repeats=1)
    assert result.as_predicted
    assert result.saved_bytes == 3 * 1280 * 4
    assert trace(mobilenet, (3, 40, 40)).input_shape != mobilenet_trace.input_shape


def test_measuring_leaves_the_model_as_it_was(mobilenet, mobilenet_trace, random_policy):
    model = apply(mobilenet, random_policy(mobilenet_trace, 3))
    before = deepcopy(model.state_dict())
    training = model.training
    result = measure(model, torch.randn(2, 3, 96, 96), torch.tensor([0, 1]), repeats=1)
    assert result.step_seconds > 0
    assert sum(tensor.bytes for tensor in result.tensors) == result.saved_bytes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training == training
    assert all(parameter.grad is None for parameter in model.parameters())
