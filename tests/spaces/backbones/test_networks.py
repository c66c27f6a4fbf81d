"""The definitions: parameter totals, names, MACs and shapes against published figures."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from tinysearch.spaces.backbones import list_backbones, load_backbone
from tinysearch.spaces.backbones.blocktable import MCUNET_5FPS, MOBILENETV2_W035, PROXYLESSNAS_W03, BlockTableNet
from tinysearch.spaces.backbones.mobilenetv2 import PaddedSequential, conv_norm_act, make_divisible
from tinysearch.spaces.backbones.proxylessnas import ProxylessNASMobile

NAMES = [info.name for info in list_backbones()]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, size: int) -> tuple[int, int]:
    """MACs of convolutions and of linear layers, counted by fvcore."""
    analysis = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, size, size)).unsupported_ops_warnings(False)
    by_operator = analysis.by_operator()
    return by_operator["conv"], by_operator["linear"]


@pytest.mark.parametrize(
    ("name", "total"),
    [
        # torchvision's documentation, 1000 classes
        ("mobilenetv2", 3_504_872),
        ("mobilenetv3-small", 2_542_856),
        ("mobilenetv3-large", 5_483_032),
        # torchvision 0.28's own definitions, built with this width_mult
        ("mobilenetv2-w0.1", 1_367_080),
        ("mobilenetv2-w1.4", 6_108_776),
        ("mobilenetv3-small-w0.1", 136_672),
        ("mobilenetv3-small-w0.75", 1_653_920),
        ("mobilenetv3-small-w1.3", 3_928_192),
        ("mobilenetv3-large-w0.35", 997_064),
        ("mobilenetv3-large-w1.4", 9_989_328),
    ],
)
def test_parameter_totals_are_torchvisions(name, total):
    assert parameters(load_backbone(name, num_classes=1000)) == total


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        (
            "mobilenetv2",
            314,
            {
                "features.0.0.weight": (32, 3, 3, 3),
                "features.1.conv.1.weight": (16, 32, 1, 1),
                "features.2.conv.1.0.weight": (96, 1, 3, 3),
                "features.17.conv.3.running_var": (320,),
                "features.18.1.num_batches_tracked": (),
                "classifier.1.weight": (1000, 1280),
            },
        ),
        (
            "mobilenetv3-small",
            244,
            {
                "features.1.block.1.fc1.weight": (8, 16, 1, 1),
                "features.1.block.2.1.bias": (16,),
                "features.4.block.1.0.weight": (96, 1, 5, 5),
                "features.11.block.2.fc2.bias": (576,),
                "features.12.0.weight": (576, 96, 1, 1),
                "classifier.0.weight": (1024, 576),
                "classifier.3.weight": (1000, 1024),
            },
        ),
        (
            "mobilenetv3-large",
            312,
            {
                "features.1.block.0.0.weight": (16, 1, 3, 3),
                "features.4.block.2.fc1.weight": (24, 72, 1, 1),
                "features.15.block.3.1.running_mean": (160,),
                "features.16.0.weight": (960, 160, 1, 1),
                "classifier.0.weight": (1280, 960),
                "classifier.3.bias": (1000,),
            },
        ),
        (
            "proxylessnas-mobile",
            368,
            {
                "first_conv.bn.running_mean": (32,),
                "blocks.0.mobile_inverted_conv.depth_conv.conv.weight": (32, 1, 3, 3),
                "blocks.19.mobile_inverted_conv.inverted_bottleneck.conv.weight": (1152, 192, 1, 1),
                "blocks.19.mobile_inverted_conv.point_linear.bn.weight": (320,),
                "feature_mix_layer.conv.weight": (1280, 320, 1, 1),
                "classifier.linear.weight": (1000, 1280),
            },
        ),
    ],
)
def test_names_and_shapes_are_the_publishers(name, entries, expected):
    state = load_backbone(name, num_classes=1000).state_dict()
    assert len(state) == entries
    assert {key: tuple(state[key].shape) for key in expected} == expected


def test_mobilenetv3_norms_have_the_papers_constants():
    norms = [m for m in load_backbone("mobilenetv3-large").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_proxylessnas_mobile_has_the_papers_size(norm):
    """TinyTL's backbone: 2,799,512 parameters and a 102-way head; 319.3 M MAC at 224 px with that head."""
    model = ProxylessNASMobile(102, norm=norm)
    assert parameters(model) - parameters(model.classifier) == 2_799_512
    assert parameters(model.classifier) == 130_662
    assert round(sum(macs(model, 224)) / 1e6, 1) == 319.3


def test_proxylessnas_group_norm_has_eight_channels_a_group():
    norms = [m for m in ProxylessNASMobile(norm="group").modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 61
    assert {(norm.num_channels // norm.num_groups, norm.eps) for norm in norms} == {(8, 1e-5)}


@pytest.mark.parametrize(
    ("rows", "convolutions", "millions"),
    [(MCUNET_5FPS, 42, 22.45), (MOBILENETV2_W035, 51, 16.65), (PROXYLESSNAS_W03, 60, 18.62)],
)
def test_block_tables_have_the_studys_convolutions(rows, convolutions, millions):
    model = BlockTableNet(rows)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions
    assert round(macs(model, 128)[0] / 1e6, 2) == millions


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_traces_and_maps_any_image_to_logits(name):
    model = load_backbone(name, num_classes=7).eval()
    traced = torch.fx.symbolic_trace(model)
    generator = torch.Generator().manual_seed(1)
    for shape in [(1, 3, 64, 64), (3, 3, 33, 47), (1, 3, 9, 9)]:
        images = torch.randn(shape, generator=generator)
        with torch.no_grad():
            logits = model(images)
            assert logits.shape == (shape[0], 7)
            assert torch.isfinite(logits).all()
            assert torch.equal(logits, traced(images))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_reaches_every_parameter(name):
    model = load_backbone(name, num_classes=3)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    nn.functional.cross_entropy(model(images), torch.tensor([0, 2])).backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_modules_and_never_in_place(name):
    model = load_backbone(name)
    activations = [m for m in model.modules() if hasattr(m, "inplace")]
    assert activations
    assert not any(m.inplace for m in activations)
    functions = {node.target for node in torch.fx.symbolic_trace(model).graph.nodes if node.op == "call_function"}
    assert functions.isdisjoint({nn.functional.relu, nn.functional.relu6, nn.functional.hardswish})


@pytest.mark.parametrize("width", [0.05, 0.1, 0.35, 0.37, 0.5, 1.0, 1.05, 1.4, 3.9])
def test_make_divisible_keeps_its_promises(width):
    for base in range(8, 1281, 8):
        channels = make_divisible(base * width)
        assert channels % 8 == 0
        assert channels >= 8
        assert channels >= 0.9 * base * width
        assert abs(channels - base * width) <= 8


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (1, 1), (6, 9), (5, 2)])
def test_tensorflow_padding_is_same_at_even_and_odd_sizes(size):
    """TensorFlow's SAME: ceil(n / 2) outputs, the odd zero behind."""
    layer = conv_norm_act(3, 4, 3, 2, tf_padding=True).eval()
    assert isinstance(layer, PaddedSequential)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    pads = []
    for length in reversed(size):
        total = ((length + 1) // 2 - 1) * 2 + 3 - length
        pads += [total // 2, total - total // 2]
    expected = nn.functional.conv2d(nn.functional.pad(images, pads), layer[0].weight, stride=2)
    assert expected.shape[2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(layer(images), layer[2](layer[1](expected)))
