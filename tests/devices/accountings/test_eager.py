"""What plain PyTorch layers keep: predicted against autograd, to the byte."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from tinysearch.devices.accountings import eager
from tinysearch.devices.breakdown import estimate
from tinysearch.devices.costs import cost_table
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import list_backbones, load_backbone
from tinysearch.spaces.lite_residual import LiteResidual
from tinysearch.spaces.policy import Channels, LayerUpdate
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


class Beside(nn.Module):
    def __init__(self, block, module):
        super().__init__()
        self.block, self.module = block, module

    def forward(self, x):
        return self.module(x, self.block(x))


def plain(backbone, policy):
    """The backbone's own layers, with requires_grad as the policy says, in training mode but for frozen statistics."""
    model = deepcopy(backbone).requires_grad_(False).train()
    modules = dict(model.named_modules())
    modules[policy.head].requires_grad_(True)
    for entry in policy.layers:
        modules[entry.name].weight.requires_grad_(entry.weight != "none")
        if entry.bias:
            modules[entry.name].bias.requires_grad_(True)
    updates = {norm.name: norm for norm in policy.norms}
    for name, module in modules.items():
        if isinstance(module, NORMS):
            update = updates.get(name)
            module.weight.requires_grad_(bool(update and update.scale))
            module.bias.requires_grad_(bool(update and update.shift))
            module.train(bool(update and update.statistics))
    for lite in policy.lite_residuals:
        module = LiteResidual(lite.shape)
        module.norm2.bias.requires_grad_(lite.shift)
        model.set_submodule(lite.block, Beside(modules[lite.block], module))
    return model


def kept_by_autograd(model, images):
    """Bytes of the distinct storages that autograd keeps, without parameters, buffers and the images."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), images)}
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(images)
    assert logits.requires_grad
    return sum(t.untyped_storage().nbytes() for pointer, t in storages.items() if pointer not in own)


def predicted(found, policy, batch):
    table = eager.plain_table(UpdateTable.of(found, [policy]))
    return int(eager.find_kept(table, batch).row_bytes(found, batch, 4).sum())


def check(model, found, policy, batch):
    images = torch.randn(batch, *found.input_shape, generator=torch.Generator().manual_seed(1))
    assert predicted(found, policy, batch) == kept_by_autograd(plain(model, policy), images), policy.describe()


@pytest.mark.parametrize("name", [info.name for info in list_backbones()])
def test_every_built_in_backbone_equals_autograd(name):
    size = 65 if name.endswith("-tf") else 64
    model = load_backbone(name, num_classes=7)
    found = trace(model, (3, size, size))
    space = UpdateSpace(found)
    policies = [
        methods.last(found),
        methods.bias(found),
        methods.norm_last(found),
        methods.full(found),
        methods.tinytl(found, "L"),
        methods.tinytl(found, "L+B"),
        methods.mobiletl(found, 2),
        *(space.decode(row) for row in space.sample(2, seed=5)),
    ]
    for policy in policies:
        check(model, found, policy, 2)


@pytest.mark.parametrize("seed", range(12))
def test_unusual_layers_equal_autograd(small_net, small_trace, random_policy, seed):
    check(small_net, small_trace, random_policy(small_trace, seed), 3)


class InPlace(nn.Module):
    """Activations and an addition that overwrite their input, and padding that two convolutions read."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.mix = nn.Conv2d(8, 8, 1)
        self.act2 = nn.ReLU6(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.norm(self.stem(nn.functional.pad(x, (1, 1, 1, 1)))))
        y = self.act2(self.mix(x))
        y += x
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("method", ["last", "bias", "norm_last", "full"])
def test_overwritten_tensors_count_once(method):
    model = InPlace()
    found = trace(model, (3, 12, 12))
    check(model, found, getattr(methods, method)(found), 2)


def test_a_weight_that_trains_in_part_and_a_sign_mask_are_not_plain(small_net, small_trace):
    part = LayerUpdate(name="mix", weight="all")
    policy = methods.last(small_trace).model_copy(update={"layers": (part,)})
    row = small_trace.index["blocks.2.project.0"]
    channels = LayerUpdate(name="blocks.2.project.0", weight=Channels(axis="in", index=(0,)))
    some = policy.model_copy(update={"layers": (channels,), "sign_masks": ("blocks.2.expand.2",)})
    whole = some.model_copy(update={"layers": (channels.model_copy(update={"weight": "all"}),), "sign_masks": ()})
    assert predicted(small_trace, some, 2) == predicted(small_trace, whole, 2)
    cost = estimate(small_trace, some, load_device("rpi4"), accounting="eager")
    assert next(x.trains for x in cost.by_layer() if x.name == small_trace.rows[row].name) == "weight"


def test_plain_layers_keep_no_less_than_applied_ones(mobilenet_trace, random_policy):
    table = UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(20)])
    plain_bytes = eager.find_kept(eager.plain_table(table), 2).row_bytes(mobilenet_trace, 2, 4).sum(1)
    assert (plain_bytes >= saved_bytes(table, 2).sum(1)).all()


def test_all_costs_are_those_of_plain_layers(small_trace):
    """Where weights train whole, plain layers do the same work and need more memory."""
    policies = [methods.last(small_trace), methods.bias(small_trace), methods.tinytl(small_trace)]
    table, device = UpdateTable.of(small_trace, policies), load_device("rpi4")
    ours, theirs = cost_table(table, device), cost_table(table, device, accounting="eager")
    assert (theirs.peak_bytes >= ours.peak_bytes).all()
    assert theirs.peak_bytes[1] > ours.peak_bytes[1]
    for name in ("flash_bytes", "macs", "latency_s"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))
    for n, policy in enumerate(policies):
        cost = estimate(small_trace, policy, device, accounting="eager")
        assert (cost.accounting, cost.saved_bytes, cost.peak_bytes) == (
            "eager",
            theirs.saved_bytes[n],
            theirs.peak_bytes[n],
        )
        assert sum(layer.saved_bytes for layer in cost.by_layer()) == cost.saved_bytes


def test_a_measured_example():
    """MobileNetV2-w0.35 in PyTorch, 96 px, batch 8, norms in evaluation mode, MiB with the batch of images.

    Training everything keeps 47.3, training biases 46.5 (the images are not kept then), with layers that keep only what
    the policy needs 0.50.
    """
    found = trace(load_backbone("mobilenetv2-w0.35"), (3, 96, 96))
    full = methods.full(found)
    frozen = tuple(norm.model_copy(update={"statistics": False}) for norm in full.norms)
    images = 8 * 3 * 96 * 96 * 4

    def saved(policy, accounting):
        return estimate(found, policy, load_device("rpi4"), batch=8, accounting=accounting).saved_bytes

    everything = saved(full.model_copy(update={"norms": frozen}), "eager") + images
    assert round(everything / 2**20, 1) == 47.3
    assert round(saved(methods.bias(found), "eager") / 2**20, 1) == 46.5
    assert round(saved(methods.bias(found), "tinysearch") / 2**20, 2) == 0.50
