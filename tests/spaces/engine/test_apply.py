"""An applied policy trains exactly what it says: gradients equal PyTorch's, the rest stays as it was, bit by bit."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError, UnsupportedError
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import list_backbones, load_backbone
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.masks import pack_bits, unpack_bits
from tinysearch.spaces.policy import LayerUpdate, UpdatePolicy
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


def batch(size, classes, count=3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % classes


def gradients(model, images, labels):
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(images), labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def reference_gradients(backbone, images, labels):
    """PyTorch's own gradients of every parameter, norms on their running statistics."""
    model = deepcopy(backbone).eval().requires_grad_(True)
    return gradients(model, images, labels)


def of_input_channel(weight, groups, channel):
    """The elements of a grouped weight that read an input channel, counted over all groups: (out / groups, ...)."""
    inputs, rows = weight.shape[1], weight.shape[0] // groups
    group = int(channel) // inputs
    return weight[group * rows : (group + 1) * rows, int(channel) % inputs]


def check_against_pytorch(model, policy, reference):
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    channels = {entry.name: entry.weight for entry in policy.layers}
    for name, gradient in gradients(model, *reference["batch"]).items():
        assert name in trained
        if name.endswith("weight_update"):
            layer = name.removesuffix(".weight_update")
            module, index = model.get_submodule(layer), torch.tensor(channels[layer].index)
            expected = reference["grad"][f"{layer}.weight"]
            if channels[layer].axis == "in" and module.groups > 1:
                expected = torch.stack([of_input_channel(expected, module.groups, c) for c in index])
            else:
                expected = expected.index_select(module.update_axis, index)
        else:
            expected = reference["grad"][name]
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
        trained.remove(name)
    assert not trained, "trains, but has no gradient"


@pytest.fixture(scope="module", params=["squeeze", "mobilenet"])
def case(request):
    trace = request.getfixturevalue(f"{request.param}_trace" if request.param == "squeeze" else "mobilenet_trace")
    backbone = request.getfixturevalue("squeeze_net" if request.param == "squeeze" else "mobilenet")
    images, labels = batch(trace.input_shape[1], trace.num_classes)
    grad = reference_gradients(backbone, images, labels)
    return backbone, UpdateSpace(trace), {"batch": (images, labels), "grad": grad}


def exact(space, seed):
    """A random policy that approximates nothing and adds nothing, so that PyTorch's gradients are the truth."""
    row = space.sample(1, seed)[0]
    for position, gene in enumerate(space.genes):
        if gene.kind in ("sign", "lite", "statistics"):
            row[position] = 0
    return space.decode(row)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_gradients_equal_pytorchs(case, seed):
    backbone, space, reference = case
    policy = exact(space, seed)
    check_against_pytorch(apply(backbone, policy).train(), policy, reference)


def test_gradients_of_full_fine_tuning_with_batch_statistics(case):
    backbone, space, reference = case
    images, labels = reference["batch"]
    ours = gradients(apply(backbone, methods.full(space.trace)).train(), images, labels)
    theirs = gradients(deepcopy(backbone).requires_grad_(True).train(), images, labels)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_outputs_are_the_backbones_before_training(case, seed):
    backbone, space, reference = case
    row = space.sample(1, seed)[0]
    model = apply(backbone, space.decode(row)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(reference["batch"][0]), backbone(reference["batch"][0]), rtol=1e-4, atol=1e-5)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_only_what_trains_changes(case, seed):
    backbone, space, reference = case
    policy = space.decode(space.sample(1, seed)[0])
    model = apply(backbone, policy).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    expected = UpdateTable.of(space.trace, [policy]).trained_params.sum()
    assert sum(p.numel() for p in trained) == expected
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(trained, 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(reference["batch"][0]), reference["batch"][1]).backward()
        optimizer.step()
    updated = {norm.name for norm in policy.norms if norm.statistics}
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, tensor in model.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if name not in names and not (module in updated and leaf.startswith(("running", "num"))):
            assert torch.equal(tensor, before[name]), name
    for name, tensor in backbone.state_dict().items():
        if name in before and name not in names:
            assert torch.equal(tensor, before[name]), f"the backbone's own {name} changed"


@pytest.mark.parametrize("op", ["relu6", "hardswish", "silu"])
def test_sign_mask_is_the_sign_of_the_input(op):
    from tinysearch.spaces.engine.layers import MaskedActivation

    x = torch.tensor([-7.0, -1.0, -0.0, 0.0, 1.0, 5.0, 6.0, 7.0], requires_grad=True)
    y = MaskedActivation(op, sign=True)(x.unsqueeze(0))
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(y[0], getattr(F, op)(x))
    torch.testing.assert_close(x.grad, (x >= 0).float())


@pytest.mark.parametrize("op", ["relu", "relu6", "hardsigmoid"])
def test_exact_masks_have_pytorchs_gradient_at_the_kinks_too(op):
    from tinysearch.spaces.engine.layers import MaskedActivation

    values = torch.tensor([[-7.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 5.0, 6.0, 7.0, float("nan")]])
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    MaskedActivation(op)(ours).sum().backward()
    getattr(F, op)(theirs).sum().backward()
    torch.testing.assert_close(ours.grad[:, :-1], theirs.grad[:, :-1])


@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 100))
def test_packed_bits_round_trip(samples, elements, seed):
    mask = torch.from_numpy(np.random.default_rng(seed).random((samples, elements)) > 0.5)
    packed = pack_bits(mask)
    assert packed.shape == (samples, -(-elements // 8))
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((LayerUpdate(name="nowhere", weight="all"),), "names nowhere"),
        ((LayerUpdate(name="grouped", weight={"axis": "in", "index": (8,)}),), "no channel 8"),
        ((LayerUpdate(name="stem", weight={"axis": "out", "index": (8,)}),), "no channel 8"),
        ((LayerUpdate(name="blocks.0.expand", bias=True),), "no bias"),
    ],
)
def test_wrong_policies_are_refused(squeeze_net, layers, words):
    policy = UpdatePolicy(backbone="b", input_shape=(3, 33, 33), head="head", layers=layers)
    with pytest.raises((InputError, UnsupportedError), match=words):
        apply(squeeze_net, policy)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_lite_residual_module_reads_what_enters_its_block_with_the_module_before_in_it(
    mobilenet, mobilenet_trace, backwards
):
    """x' = F(x) + lite(x) of each block in turn (TinyTL, section 3.2), in whatever order a policy lists them."""
    policy = methods.tinytl(mobilenet_trace, variant="L")
    order = -1 if backwards else 1
    policy = policy.model_copy(update={"lite_residuals": policy.lite_residuals[::order]})
    model = apply(mobilenet, policy).eval()
    entered, added = {}, {}
    names = {lite.block for lite in policy.lite_residuals}
    for name in names:
        module = model.get_submodule(f"{name}.lite_residual")
        torch.nn.init.ones_(module.norm2.weight)
        module.register_forward_pre_hook(lambda _, args, name=name: entered.update({name: args}))
        module.register_forward_hook(lambda *answer, name=name: added.update({name: answer[2]}))
    images, _ = batch(mobilenet_trace.input_shape[1], mobilenet_trace.num_classes)
    with torch.no_grad():
        model(images)
        for name, block in mobilenet.named_modules():
            if name in names:
                x, branch = entered[name]
                torch.testing.assert_close(branch, block(x), rtol=1e-3, atol=1e-4)
                assert not torch.allclose(added[name], branch, atol=1e-3)


def test_equal_policies_start_equal(mobilenet, mobilenet_trace):
    policy = methods.tinytl(mobilenet_trace)
    one, other = apply(mobilenet, policy, seed=3), apply(mobilenet, policy, seed=3)
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_sign_masks_gradient_is_the_straight_through_one(mobilenet, mobilenet_trace):
    """Against PyTorch's own operations: the value exact, the slope 1 where the input is not negative."""

    class StraightThrough(torch.nn.Module):
        def forward(self, x):
            passed = x * (x >= 0)
            return passed + (F.relu6(x) - passed).detach()

    policy = methods.mobiletl(mobilenet_trace, 3)
    policy = policy.model_copy(
        update={"norms": tuple(norm.model_copy(update={"statistics": False}) for norm in policy.norms)}
    )
    reference = deepcopy(mobilenet).eval().requires_grad_(True).double()
    for name in policy.sign_masks:
        reference.set_submodule(name, StraightThrough())
    images, labels = batch(32, 10)
    expected = gradients(reference, images.double(), labels)
    ours = gradients(apply(mobilenet, policy).train().double(), images.double(), labels)
    assert len(ours) == 2 + 3 * 3 + 3 * 3 + 3  # the head; per block three weights, three shifts and a scale
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-12)


def _channels_at_the_rim(found):
    """A policy that trains the first and last channel of every conv, by input and by output in turn."""
    convs = [x for x in found if x.kind == "conv"]
    return methods.bias(found).model_copy(
        update={
            "layers": tuple(
                LayerUpdate(name=x.name, weight={"axis": axis, "index": (0, last)})
                for n, x in enumerate(convs)
                for axis in (("in", "out")[n % 2],)
                if (last := (x.in_channels if axis == "in" else x.out_channels) - 1) > 1
            )
        }
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lbfgs"])
def test_what_is_frozen_is_so_after_twenty_steps(mobilenet, mobilenet_trace, optimizer):
    """Bit by bit, under optimizers that decay weights too; channels outside a slice included."""
    policy = _channels_at_the_rim(mobilenet_trace)
    model = apply(mobilenet, policy).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    make = {
        "sgd": lambda: torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=0.1),
        "adamw": lambda: torch.optim.AdamW(trained, 1e-3),
        "lbfgs": lambda: torch.optim.LBFGS(trained, 0.1, max_iter=2),
    }[optimizer]()
    images, labels = batch(32, 10, 4)
    whole = {entry.name: model.get_submodule(entry.name).composed_weight() for entry in policy.layers}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def closure():
        make.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    first = float(closure().detach())
    for _ in range(20):
        make.step(closure)
    assert float(closure().detach()) < first
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, tensor in model.state_dict().items():
        assert name in names or torch.equal(tensor, before[name]), name
    moved = 0
    for entry in policy.layers:
        layer = model.get_submodule(entry.name)
        changed = (layer.composed_weight() != whole[entry.name]).float()
        outside = torch.ones(changed.shape[0 if layer.update_axis == 0 else 1], dtype=torch.bool)
        outside[list(entry.weight.index)] = False
        assert not changed.transpose(0, layer.update_axis)[outside].any(), entry.name
        moved += bool(changed.any())
    assert moved > len(policy.layers) / 2  # a step may be below the rounding of some


def test_state_dict_and_deepcopy_round_trips(mobilenet, mobilenet_trace):
    policy = _channels_at_the_rim(mobilenet_trace).model_copy(
        update={"lite_residuals": methods.tinytl(mobilenet_trace, "L").lite_residuals}
    )
    model = apply(mobilenet, policy).train()
    images, labels = batch(32, 10)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    fresh = apply(mobilenet, policy)
    fresh.load_state_dict(model.state_dict())
    copy = deepcopy(model)
    with torch.no_grad():
        expected = model.eval()(images)
        assert torch.equal(fresh.eval()(images), expected)
        assert torch.equal(copy.eval()(images), expected)
        copy.get_parameter("features.0.1.bias").add_(1)  # a copy folds its own norms, not the original's
        assert not torch.equal(copy(images), expected)
        assert torch.equal(model(images), expected)


def test_batches_of_one_and_channels_last(case):
    backbone, space, reference = case
    images, labels = reference["batch"]
    policy = exact(space, 17)
    model = apply(backbone, policy).train()
    expected = gradients(model, images, labels)
    order = torch.channels_last
    for name, gradient in gradients(model.to(memory_format=order), images.to(memory_format=order), labels).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=2e-5)
    single = [gradients(model, images[n : n + 1], labels[n : n + 1]) for n in range(len(images))]
    for name, gradient in expected.items():
        total = sum(one[name].clone() for one in single) / len(images)
        torch.testing.assert_close(total, gradient, rtol=1e-2, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [info.name for info in list_backbones()])
def test_gradients_equal_pytorchs_on_every_backbone(name):
    size = 64
    backbone = load_backbone(name, num_classes=5, input_size=size).eval().double()
    found = trace(backbone, (3, size, size))
    space = UpdateSpace(found)
    images, labels = batch(size, 5, 2)
    images = images.double()
    reference = {"batch": (images, labels), "grad": reference_gradients(backbone, images, labels)}
    for seed in (1, 2, 3):
        policy = exact(space, seed)
        check_against_pytorch(apply(backbone, policy).train(), policy, reference)
