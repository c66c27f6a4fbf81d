"""A delta holds what training changed and nothing else, and merges into the backbone that it was trained on alone."""

import json
import pickle
from contextlib import suppress
from copy import deepcopy
from math import prod

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save
from torch import nn

from tinysearch.core.errors import ConflictError, InputError
from tinysearch.spaces import methods
from tinysearch.spaces.delta import read_delta
from tinysearch.spaces.delta.file import FORMAT
from tinysearch.spaces.delta.merging import merge
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.origin import base_digest
from tinysearch.spaces.policy import LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.space import UpdateSpace, lite_update
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


def images(trace, count=3):
    return torch.randn(count, *trace.input_shape, generator=torch.Generator().manual_seed(5))


def train(model, batch, steps=3, rate=0.05):
    model.train()
    classes = model(batch).shape[1]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch), torch.arange(len(batch)) % classes).backward()
        optimizer.step()
    return model.eval()


def trained(backbone, policy, batch):
    return train(apply(backbone, policy), batch)


def outputs(model, batch):
    with torch.no_grad():
        return model(batch)


def metadata(data):
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def rewritten(data, tensors=None, **header):
    """A delta with other tensors or another header."""
    content = json.loads(metadata(data)[FORMAT.name]) | header
    return save(load(data) if tensors is None else tensors, {FORMAT.name: json.dumps(content)})


@pytest.fixture(scope="module", params=["squeeze", "mobilenet"])
def case(request):
    name = request.param
    backbone = request.getfixturevalue("squeeze_net" if name == "squeeze" else "mobilenet")
    return backbone, UpdateSpace(request.getfixturevalue(f"{name}_trace"))


@pytest.fixture(scope="module")
def tinytl(mobilenet, mobilenet_trace):
    """A policy with lite residual modules and biases, trained: the model and its delta."""
    policy = methods.tinytl(mobilenet_trace)
    model = trained(mobilenet, policy, images(mobilenet_trace))
    return model, policy.delta(model)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_a_delta_holds_what_changed_alone_and_merged_it_answers_as_what_was_trained(case, seed):
    backbone, space = case
    policy = space.decode(space.sample(1, seed)[0])
    batch = images(space.trace)
    model = trained(backbone, policy, batch)
    data = policy.delta(model)

    tensors, state = load(data), model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())
    # What a policy freezes of a lite residual module is there all the same: the base has not got it.
    frozen = sum(p.numel() for name, p in model.named_parameters() if ".lite_residual." in name and not p.requires_grad)
    elements = int(UpdateTable.of(space.trace, [policy]).trained_params.sum()) + frozen
    channels = [len(model.get_submodule(norm.name).weight) for norm in policy.norms if norm.statistics]
    data_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert data_bytes == 4 * (elements + 2 * sum(channels)) + 8 * len(channels)  # statistics, and counts of batches

    merged = merge(backbone, data)
    expected = outputs(model, batch)
    torch.testing.assert_close(outputs(merged, batch), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, outputs(backbone, batch), rtol=1e-4, atol=1e-5), "it did train"
    leaves = [module for module in merged.modules() if next(module.children(), None) is None]
    assert all(type(module).__module__.startswith("torch.nn") for module in leaves)
    if not policy.lite_residuals:
        assert type(merged) is type(backbone)
        assert merged.state_dict().keys() == backbone.state_dict().keys()


def test_every_value_is_the_trained_ones_bit_for_bit(squeeze_net, squeeze_trace):
    policy = UpdatePolicy(
        backbone="squeeze",
        input_shape=squeeze_trace.input_shape,
        head="head",
        layers=(
            LayerUpdate(name="blocks.0.expand", weight={"axis": "in", "index": (1, 4)}),
            LayerUpdate(name="blocks.1.project", weight={"axis": "out", "index": (0, 7)}),
            LayerUpdate(name="blocks.1.depthwise", weight={"axis": "out", "index": (3,)}),
            LayerUpdate(name="stem", bias=True),
        ),
        norms=(
            NormUpdate(name="blocks.0.norm1", scale=True, shift=True, statistics=True),
            NormUpdate(name="blocks.1.norm1", statistics=True),
        ),
    )
    model = trained(squeeze_net, policy, images(squeeze_trace))
    merged, before = merge(squeeze_net, policy.delta(model)).state_dict(), squeeze_net.state_dict()
    expand = (merged["blocks.0.expand.weight"] != before["blocks.0.expand.weight"]).any(0).flatten()
    assert expand.nonzero().flatten().tolist() == [1, 4]
    project = (merged["blocks.1.project.weight"] != before["blocks.1.project.weight"]).flatten(1).any(1)
    assert project.nonzero().flatten().tolist() == [0, 7]
    depthwise = (merged["blocks.1.depthwise.weight"] != before["blocks.1.depthwise.weight"]).flatten(1).any(1)
    assert depthwise.nonzero().flatten().tolist() == [3]
    changed = {name for name in merged if not torch.equal(merged[name], before[name])}
    statistics = {f"blocks.{n}.norm1.{leaf}" for n in (0, 1) for leaf in ("running_mean", "running_var")}
    counts = {f"blocks.{n}.norm1.num_batches_tracked" for n in (0, 1)}
    weights = {f"blocks.{name}.weight" for name in ("0.expand", "1.project", "1.depthwise", "0.norm1")}
    assert changed == weights | statistics | counts | {"stem.bias", "blocks.0.norm1.bias", "head.weight", "head.bias"}
    state = model.state_dict()
    assert all(torch.equal(merged[name], state[name]) for name in changed - weights)
    for name in ("blocks.0.expand", "blocks.1.project", "blocks.1.depthwise"):
        assert torch.equal(merged[f"{name}.weight"], model.get_submodule(name).composed_weight())


def test_a_file_on_disk_is_the_same_delta_and_opens_elsewhere(tinytl, mobilenet, mobilenet_trace, tmp_path):
    _, data = tinytl
    path = tmp_path / "digits.safetensors"
    path.write_bytes(data)
    batch = images(mobilenet_trace)
    assert torch.equal(outputs(merge(mobilenet, path), batch), outputs(merge(mobilenet, data), batch))
    assert torch.equal(outputs(merge(mobilenet, str(path)), batch), outputs(merge(mobilenet, read_delta(path)), batch))
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[FORMAT.name])
        assert set(file.keys()) == set(load(data))
    assert (header["format"], header["version"], header["classes"]) == ("tinysearch.delta", 1, 10)
    assert UpdatePolicy.from_json(json.dumps(header["policy"])) == methods.tinytl(mobilenet_trace)
    assert header["base_sha256"] == base_digest(mobilenet, mobilenet_trace.layers[mobilenet_trace.head].name)
    assert len(path.read_bytes()) == 8 + int.from_bytes(data[:8], "little") + sum(
        prod(tensor.shape) * tensor.element_size() for tensor in load(data).values()
    )


def test_equal_deltas_are_equal_byte_for_byte(tinytl, mobilenet_trace):
    model, data = tinytl
    assert all(methods.tinytl(mobilenet_trace).delta(deepcopy(model)) == data for _ in range(3))


def test_memory_format_and_copies_make_no_difference(mobilenet, mobilenet_trace):
    policy = methods.mobiletl(mobilenet_trace, 2)
    model = trained(mobilenet, policy, images(mobilenet_trace))
    data = policy.delta(model)
    assert policy.delta(deepcopy(model).to(memory_format=torch.channels_last)) == data
    across = deepcopy(mobilenet).to(memory_format=torch.channels_last)
    batch = images(mobilenet_trace)
    torch.testing.assert_close(outputs(merge(across, data), batch), outputs(model, batch), rtol=1e-4, atol=1e-5)


def test_a_delta_of_a_model_trained_in_channels_last(mobilenet, mobilenet_trace):
    policy = UpdateSpace(mobilenet_trace).decode(UpdateSpace(mobilenet_trace).sample(1, 7)[0])
    batch = images(mobilenet_trace).to(memory_format=torch.channels_last)
    model = train(apply(mobilenet, policy).to(memory_format=torch.channels_last), batch)
    merged = merge(mobilenet, policy.delta(model))
    torch.testing.assert_close(outputs(merged, batch), outputs(model, batch), rtol=1e-4, atol=1e-5)


def test_the_backbone_and_the_model_stay_as_they_were(mobilenet, mobilenet_trace):
    policy = methods.tinytl(mobilenet_trace)
    model = trained(mobilenet, policy, images(mobilenet_trace))
    before, after = deepcopy(mobilenet.state_dict()), deepcopy(model.state_dict())
    merged = merge(mobilenet, policy.delta(model))
    with torch.no_grad():
        for tensor in merged.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in mobilenet.state_dict().items())
    assert all(torch.equal(tensor, after[name]) for name, tensor in model.state_dict().items())


def test_another_number_of_classes_takes_the_deltas_head(mobilenet, mobilenet_trace):
    other = deepcopy(mobilenet)
    head = mobilenet_trace.layers[mobilenet_trace.head].name
    other.set_submodule(head, nn.Linear(other.get_submodule(head).in_features, 3))
    policy = methods.last(mobilenet_trace)
    batch = images(mobilenet_trace)
    model = trained(other, policy, batch)
    merged = merge(mobilenet, policy.delta(model))  # this one has ten classes
    assert outputs(merged, batch).shape == (3, 3)
    torch.testing.assert_close(outputs(merged, batch), outputs(model, batch), rtol=1e-4, atol=1e-5)


def test_a_merged_network_is_a_backbone_again(tinytl, mobilenet, mobilenet_trace):
    """With lite residual modules too: it is traced, a policy is applied, and the new delta needs the merged one."""
    backbone = deepcopy(mobilenet)
    backbone.backbone_name, backbone.input_size = "small", 32
    merged = merge(backbone, tinytl[1])
    assert (merged.backbone_name, merged.input_size) == ("small", 32)
    found = trace(merged, mobilenet_trace.input_shape)
    policy = methods.last(found)
    batch = images(found)
    model = trained(merged, policy, batch)
    data = policy.delta(model)
    torch.testing.assert_close(outputs(merge(merged, data), batch), outputs(model, batch), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConflictError):
        merge(mobilenet, data)


class PreActivated(nn.Module):
    """A block that begins by overwriting its input."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.conv2(F.relu(self.conv1(self.act(x)), inplace=True))


class PreActivatedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(PreActivated(act(inplace=True)) for act in (nn.ReLU, nn.Hardswish, nn.ReLU6)))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def test_what_a_block_overwrites_is_still_there_for_a_lite_residual_module():
    torch.manual_seed(0)
    net = PreActivatedNet().eval()
    found = trace(net, (3, 8, 8))
    lites = tuple(lite_update(found, block) for block in found.blocks)
    policy = UpdatePolicy(backbone="b", input_shape=(3, 8, 8), head="head", lite_residuals=lites)
    model = apply(net, policy)
    with torch.no_grad():
        for lite in lites:
            model.get_parameter(f"{lite.block}.lite_residual.norm2.weight").fill_(1)
    merged = merge(net, policy.delta(model))
    torch.testing.assert_close(outputs(merged, images(found)), outputs(model, images(found)), rtol=1e-4, atol=1e-5)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_wrong_base_is_refused_with_both_digests(tinytl, mobilenet, mobilenet_trace, squeeze_net):
    _, data = tinytl
    head = mobilenet_trace.layers[mobilenet_trace.head].name
    other = deepcopy(mobilenet)
    first = other.get_parameter("features.0.0.weight").data.view(-1)[:1]
    first.copy_(first.nextafter(torch.tensor([9.0])))  # the least change there is
    for wrong in (other, squeeze_net):
        with pytest.raises(ConflictError) as caught:
            merge(wrong, data)
        assert base_digest(mobilenet, head)[:12] in str(caught.value)
        assert base_digest(wrong, head)[:12] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_base_is_what_was_there_when_the_policy_was_applied(mobilenet, mobilenet_trace):
    backbone = deepcopy(mobilenet)
    policy = methods.last(mobilenet_trace)
    model = trained(backbone, policy, images(mobilenet_trace))
    with torch.no_grad():
        backbone.get_parameter("features.0.0.weight").mul_(2)
    data = policy.delta(model)
    merge(mobilenet, data)
    with pytest.raises(ConflictError):
        merge(backbone, data)


def test_the_digest_leaves_out_the_head_and_counts_of_batches_alone(squeeze_net):
    net = deepcopy(squeeze_net)
    digest = base_digest(net, "head")
    for name, tensor in net.state_dict().items():
        value = tensor.clone()
        tensor.add_(1)
        same = name.startswith("head.") or name.endswith("num_batches_tracked")
        assert (base_digest(net, "head") == digest) == same, name
        tensor.copy_(value)
    net.stem.weight.data = net.stem.weight.data.to(memory_format=torch.channels_last)
    assert base_digest(net, "head") == digest
    assert base_digest(net.double(), "head") != digest
    assert base_digest(net.to(torch.bfloat16), "head") != digest


def test_damage_is_refused(tinytl, mobilenet, tmp_path):
    _, data = tinytl
    size = 8 + int.from_bytes(data[:8], "little")
    damaged = [b"", b"garbage", data[:4], data[: size - 1], data[:size], data[:-1], data + b"x", b"\xff" * 64]
    for content in damaged:
        with pytest.raises(InputError, match="no safetensors file"):
            read_delta(content)
    (tmp_path / "cut.safetensors").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"cut\.safetensors: no safetensors file"):
        merge(mobilenet, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="no such file"):
        merge(mobilenet, tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        merge(mobilenet, tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 4000), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_an_error_of_ours_or_harmless(tinytl, mobilenet, place, value):
    data = bytearray(tinytl[1])
    data[place] = value
    with suppress(InputError, ConflictError):
        merge(mobilenet, bytes(data))


def test_a_plain_safetensors_file_is_no_delta(mobilenet):
    with pytest.raises(InputError, match="no delta"):
        read_delta(save({"weight": torch.zeros(2)}))
    with pytest.raises(InputError, match="no delta"):
        read_delta(save({"weight": torch.zeros(2)}, {"format": "pt"}))
    for text in ("", "[]", "{}", '{"format": 3}', "[" * 100_000):
        with pytest.raises(InputError, match=FORMAT.name):
            read_delta(save({"weight": torch.zeros(2)}, {FORMAT.name: text}))


def test_wrong_tensors_are_refused_with_their_name(tinytl, mobilenet):
    _, data = tinytl
    tensors = load(data)
    bias = next(name for name in tensors if name.endswith(".bias") and "lite" not in name)
    lite = next(name for name in tensors if ".lite_residual.conv1" in name)
    head = next(name for name in tensors if name.startswith("classifier") and name.endswith("weight"))
    nan = torch.full_like(tensors[bias], torch.nan)
    wrong = {
        f"{bias} should be": [
            {name: tensor for name, tensor in tensors.items() if name != bias},
            tensors | {bias: tensors[bias][1:].clone()},
            tensors | {bias: tensors[bias].double()},
        ],
        f"{lite} should be": [tensors | {lite: tensors[lite][:1].clone()}],
        "does not train stranger": [tensors | {"stranger": torch.zeros(1)}],
        "no head of 10 classes": [tensors | {head: tensors[head][:4].clone()}, {bias: tensors[bias]}],
        f"{bias} holds NaN": [tensors | {bias: nan}],
    }
    for words, contents in wrong.items():
        for content in contents:
            with pytest.raises(InputError) as caught:
                merge(mobilenet, rewritten(data, content))
            assert words in str(caught.value)


def test_a_header_that_claims_more_than_the_file_holds_costs_no_memory(tinytl, mobilenet):
    """A module of 65,536 channels would take terabytes."""
    policy = read_delta(tinytl[1]).policy
    huge = policy.lite_residuals[0].model_copy(update={"in_channels": 65_536, "out_channels": 65_536})
    claimed = json.loads(policy.model_copy(update={"lite_residuals": (huge,)}).to_json())
    with pytest.raises(InputError, match="lite residual"):
        merge(mobilenet, rewritten(tinytl[1], policy=claimed))
    with pytest.raises(InputError, match="no head of"):
        merge(mobilenet, rewritten(tinytl[1], classes=10**9))


def test_an_edited_policy_and_another_version_are_refused(tinytl, mobilenet):
    _, data = tinytl
    content = json.loads(metadata(data)[FORMAT.name])
    for header, words in (
        ({"policy": content["policy"] | {"head": "features.0.0"}}, "it was edited"),
        ({"version": 0}, "version"),
        ({"format": "tinysearch.policy"}, "tinysearch.policy"),
        ({"base_sha256": "../etc"}, "base_sha256"),
        ({"more": 1}, "more"),
    ):
        with pytest.raises(InputError, match=words):
            merge(mobilenet, rewritten(data, **header))


def test_only_the_models_own_policy_gives_a_delta(tinytl, mobilenet, mobilenet_trace):
    model, _ = tinytl
    with pytest.raises(InputError, match="the model trains policy"):
        methods.last(mobilenet_trace).delta(model)
    with pytest.raises(InputError, match="no applied policy"):
        methods.last(mobilenet_trace).delta(mobilenet)
    tuned = methods.tinytl(mobilenet_trace).with_training(learning_rate=0.01)
    assert read_delta(tuned.delta(model)).policy.training.learning_rate == 0.01


def test_a_pickled_model_leaves_its_backbone_behind(mobilenet, mobilenet_trace):
    policy = methods.last(mobilenet_trace)
    model = apply(mobilenet, policy)
    copy = pickle.loads(pickle.dumps(model))
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert len(pickle.dumps(model)) < 1.5 * weights + 100_000
    with pytest.raises(InputError, match="a pickled copy"):
        policy.delta(copy)


def test_a_diverged_training_gives_no_delta(mobilenet, mobilenet_trace):
    policy = methods.last(mobilenet_trace)
    model = apply(mobilenet, policy)
    with torch.no_grad():
        model.get_submodule(policy.head).bias[0] = torch.inf
    with pytest.raises(InputError, match="diverged"):
        policy.delta(model)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd-momentum", "adam"])
def test_parameters_by_themselves_are_held_and_merged(token_net, token_trace, optimizer):
    from tinysearch.spaces.optimizers import OPTIMIZERS

    policy = methods.full(token_trace)
    names = {layer.name for layer in token_trace if layer.kind == "parameter"}
    assert set(policy.parameters) == names
    batch = images(token_trace)
    model = apply(token_net, policy).train()
    step = OPTIMIZERS.load(optimizer).make([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        step.zero_grad()
        F.cross_entropy(model(batch), torch.arange(len(batch))).backward()
        step.step()
    model.eval()
    data = policy.delta(model)
    tensors = load(data)
    before = dict(token_net.named_parameters())
    assert names <= tensors.keys()
    assert all(not torch.equal(tensors[name], before[name]) for name in names)
    merged = merge(token_net, data)
    assert type(merged) is type(token_net)
    torch.testing.assert_close(outputs(merged, batch), outputs(model, batch), rtol=1e-4, atol=1e-5)


def test_a_network_that_asks_for_sizes_takes_lite_residual_modules():
    """Into a graph of its own, which is traced at the policy's size."""

    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand, self.norm, self.project = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1)

        def forward(self, x):
            if x.shape[-1] % 2:
                x = F.pad(x, (0, 1, 0, 1))
            return x + self.project(F.relu(self.norm(self.expand(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.units, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Sequential(Unit(), Unit()), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.units(self.stem(x)).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    table = trace(net, (3, 16, 16))
    policy = methods.tinytl(table, "L")
    assert policy.lite_residuals
    batch = images(table)
    model = trained(net, policy, batch)
    merged = merge(net, policy.delta(model))
    torch.testing.assert_close(outputs(merged, batch), outputs(model, batch), rtol=1e-4, atol=1e-5)
