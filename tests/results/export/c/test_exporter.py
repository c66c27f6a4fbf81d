"""Exported programs train as the applied model does: losses, all that is trained, and what merging it gives."""

import subprocess

import pytest
import torch
from programs import STRICT, device, need, run
from torch import nn

import tinysearch as ts
from tinysearch.core.errors import InputError, UnsupportedError
from tinysearch.results.export import EXPORTERS, MANIFEST, Manifest
from tinysearch.results.export.c.delta import block_to_delta, delta_to_block
from tinysearch.spaces import methods
from tinysearch.spaces.delta.file import changing, read_delta
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate
from tinysearch.testing import ExporterSuite
from tinysearch.testing.networks import SmallNet, make, traced

EVERY = {"line_by_line": True, "strided_in_place": True, "fused_updates": True, "by_channels": True, "one_by_one": True}
SCHEDULES = {
    "layer by layer": {},
    "fused": {"fused_updates": True},
    "strided in place": {"strided_in_place": True},
    "by channels": {"fused_updates": True, "by_channels": True},
    "every lever": EVERY,
    "every lever, image by lines": EVERY | {"image": "lines"},
}
METHODS = ("last", "bias", "norm+last", "full", "mobiletl-2", "tinytl-L+B")


class TestC(ExporterSuite):
    @pytest.fixture
    def name(self) -> str:
        return "c"


def drawn(trace: ts.Trace, seed: int) -> ts.UpdatePolicy:
    space = ts.UpdateSpace(trace)
    return space.decode(space.sample(1, seed=seed)[0])


def check(backbone: nn.Module, policy: ts.UpdatePolicy, ran, losses: float = 1e-6, values: float = 1e-6) -> None:
    torch.testing.assert_close(ran.losses, ran.expected, atol=losses, rtol=0)
    delta = block_to_delta(ran.block, policy, backbone)
    assert delta_to_block(delta, backbone)[:64] == ran.block[:64]
    expected, found = changing(ran.model, policy), read_delta(delta).tensors
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            continue  # which nothing is computed of: a block has none
        torch.testing.assert_close(found[name], tensor, atol=values, rtol=values, msg=name)
    merged = ts.merge(backbone, delta)
    image = ran.examples.tensor()[:1]
    with torch.no_grad():
        torch.testing.assert_close(merged(image)[0], ran.logits, atol=10 * values, rtol=10 * values)
        torch.testing.assert_close(ran.model(image)[0], ran.logits, atol=10 * values, rtol=10 * values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.slow
def test_a_method_trains_as_in_pytorch(schedule, method, tmp_path):
    backbone = make(SmallNet)
    policy = methods.named(traced(SmallNet))[method]
    ran = run(backbone, policy, tmp_path / "out", device=device(**SCHEDULES[schedule]))
    check(backbone, policy, ran)


@pytest.mark.parametrize("seed", range(6))
def test_a_policy_of_the_space_trains_as_in_pytorch(seed, tmp_path):
    backbone, policy = make(SmallNet), drawn(traced(SmallNet), seed)
    levers = list(SCHEDULES.values())[seed % len(SCHEDULES)]
    check(backbone, policy, run(backbone, policy, tmp_path / "out", device=device(**levers)))


class Separable(nn.Module):
    """As MobileNetV1: a depthwise convolution reads the stem's norm and activation, and 1 x 1 ones may be padded."""

    input_size = 16

    def __init__(self, pad: int, num_classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 10, 1, padding=pad, bias=False), nn.BatchNorm2d(10), nn.ReLU()),
            *(nn.Conv2d(10, 10, 3, 2, 1, groups=10, bias=False), nn.BatchNorm2d(10), nn.ReLU()),
            *(nn.Conv2d(10, 12, 1, padding=pad, bias=False), nn.BatchNorm2d(12)),
        )
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


@pytest.mark.parametrize("method", ["last", "bias", "full"])
@pytest.mark.parametrize("pad", [0, 1])
def test_a_stem_before_a_depthwise_convolution_and_pads_of_pointwise_ones(pad, method, tmp_path):
    torch.manual_seed(1)
    backbone = Separable(pad).eval()
    for norm in (module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    policy = methods.named(ts.trace(backbone, (3, 16, 16)))[method]
    ran = run(backbone, policy, tmp_path / "out", 0.01, device=device(**SCHEDULES["every lever, image by lines"]))
    check(backbone, policy, ran)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd-momentum"])
@pytest.mark.parametrize("schedule", ["layer by layer", "every lever"])
def test_several_images_a_step(schedule, optimizer, tmp_path):
    backbone, policy = make(SmallNet), methods.tinytl(traced(SmallNet), variant="L+B")
    levers = SCHEDULES[schedule] | {"one_by_one": True}
    ran = run(backbone, policy, tmp_path / "out", 0.02, batch=3, optimizer=optimizer, device=device(**levers))
    check(backbone, policy, ran)


@pytest.mark.parametrize(("axis", "index"), [("in", (0, 3, 9)), ("out", (1, 2, 7))])
@pytest.mark.parametrize("schedule", ["layer by layer", "every lever"])
def test_nothing_outside_of_a_slice_moves(schedule, axis, index, tmp_path):
    backbone, trace = make(SmallNet), traced(SmallNet)
    names = ["blocks.1.layers.0", "blocks.1.layers.3", "blocks.1.layers.6"]
    fitting = {"blocks.1.layers.0": tuple(n for n in index if n < 8)} if axis == "in" else {}
    update = [
        LayerUpdate(name=name, weight=Channels(axis=axis, index=fitting.get(name, index)), bias=False) for name in names
    ]
    policy = methods.last(trace).model_copy(update={"layers": tuple(update), "method": None})
    ran = run(backbone, policy, tmp_path / "out", device=device(**SCHEDULES[schedule]))
    check(backbone, policy, ran)
    merged = ts.merge(backbone, block_to_delta(ran.block, policy, backbone)).state_dict()
    for name, before in backbone.state_dict().items():
        layer = name.removesuffix(".weight")
        changed = (merged[name] != before).flatten(1) if layer in names else merged[name] != before
        if layer in names:
            depthwise = before.shape[1] == 1
            rows = changed.any(1) if axis == "out" or depthwise else changed.view(before.shape).any((0, 2, 3))
            assert set(rows.nonzero().flatten().tolist()) == set(fitting.get(layer, index)), name
        elif not name.startswith("head."):
            assert not changed.any(), name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sparse-update-2", "tinytl-L+B", "mobiletl-3"])
def test_mobilenet_trains_as_in_pytorch(method, tmp_path):
    backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=10, input_size=48, weights="bundled")
    policy = methods.named(ts.trace(backbone, (3, 48, 48)))[method]
    ran = run(backbone, policy, tmp_path / "out", 1e-3, device=device(**EVERY, image="lines"))
    check(backbone, policy, ran, losses=1e-5, values=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3-small", "mcunet-5fps", "mobilenetv2-w0.35-tf"])
def test_other_backbones_train_as_in_pytorch(name, tmp_path):
    torch.manual_seed(0)
    backbone = ts.load_backbone(name, num_classes=10, input_size=48)
    policy = drawn(ts.trace(backbone, (3, 48, 48)), 3)
    ran = run(backbone, policy, tmp_path / "out", 1e-4, device=device(**EVERY))
    check(backbone, policy, ran, losses=1e-5, values=1e-5)


def test_two_programs_link_together(tmp_path):
    need("gcc", "clang")
    trace = traced(SmallNet)
    for name, method in (("one", "bias"), ("two", "last")):
        ts.export(methods.named(trace)[method], make(SmallNet), to="c", out=tmp_path / name, name=name)
    (tmp_path / "main.c").write_text(
        '#include "one/one_example.h"\n#include "two/two_example.h"\n'
        "int main(void) { one_init(); two_init(); return one_example_step(0, 0) || two_example_step(0, 0); }\n"
    )
    sources = [f"{name}/{name}{part}.c" for name in ("one", "two") for part in ("", "_data", "_example")]
    for compiler in ("gcc", "clang"):
        command = [compiler, *STRICT, "-I", ".", "-I", "one", "-I", "two", "main.c", *sources, "one/ts_kernels.c"]
        subprocess.run([*command, "-lm", "-o", "both"], cwd=tmp_path, check=True)
        subprocess.run(["./both"], cwd=tmp_path, check=True)


def test_the_folder_is_a_program_with_a_self_test(tmp_path):
    need("gcc", "make")
    files = ts.export(methods.bias(traced(SmallNet)), make(SmallNet), to="c", out=tmp_path / "out", name="tiny")
    manifest = Manifest.load(tmp_path / "out" / MANIFEST)
    assert files[-1].name == MANIFEST
    done = subprocess.run(
        ["make", "-C", tmp_path / "out", "selftest"], capture_output=True, text=True, check=True
    ).stdout
    assert "\npass: tiny, worst difference" in done
    header = (tmp_path / "out" / "tiny.h").read_text()
    assert f"TINY_ARENA_BYTES    {manifest.predicted_bytes['arena']}\n" in header
    demo = subprocess.run(["make", "-C", tmp_path / "out", "demo"], capture_output=True, text=True, check=True).stdout
    assert "epoch 10: mean loss" in demo


def test_options(tmp_path):
    trace, backbone = traced(SmallNet), make(SmallNet)
    policy, out = methods.bias(trace), tmp_path / "out"
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    ts.export(policy, backbone, to="c", out=out, name="mine", images=images, labels=[1, 3])
    assert "#define MINE_EXAMPLES 2\n" in (out / "mine_example.h").read_text()
    for options, said in (
        ({"name": "int"}, "name is 'int': it must be a C identifier"),
        ({"name": "main"}, "name is 'main', as which a file of every export is called"),
        ({"batch": 0}, "batch is 0: give 1 to 256 images"),
        ({"batch": 10**9}, "batch is 1000000000: give 1 to 256 images"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: it must be positive"),
        ({"images": images, "labels": [1, 4]}, "labels are not 2 numbers below 4"),
        ({"images": images.float(), "labels": [1, 3]}, r"images are float32 \[2, 3, 16, 16\]: give 1 to 1000 of bytes"),
        (
            {"colour": "red"},
            "the exporter c has no option colour: it has device, batch, optimizer, learning_rate, name",
        ),
    ):
        with pytest.raises(InputError, match=said):
            ts.export(policy, backbone, to="c", out=tmp_path / "other", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Silly(nn.Module):
    """Layers that no kernel computes."""

    def __init__(self, layer: nn.Module, num_classes: int = 4) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.layer(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Conv2d(3, 8, 3, dilation=2), "to=c: layer is dilated: no kernel does that"),
        (nn.Conv2d(3, 8, 3, stride=(1, 2)), "has another stride down than across"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU()), "layer.1 is gelu: there are kernels for adaptiveavgpool2d, add"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5)), "drops at random"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), "layer.1 is maxpool2d: there are kernels for"),
    ],
)
def test_what_no_kernel_computes_is_refused(layer, said, tmp_path):
    backbone = Silly(layer).eval()
    policy = methods.last(ts.trace(backbone, (3, 16, 16)))
    with pytest.raises(UnsupportedError, match=said) as caught:
        ts.export(policy, backbone, to="c", out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_a_program_cannot_do_is_refused(tmp_path):
    trace, backbone = traced(SmallNet), make(SmallNet)
    policy, out = methods.bias(trace), tmp_path / "out"
    statistics = policy.model_copy(update={"norms": (NormUpdate(name="stem.1", statistics=True),)})
    for chosen, options, said in (
        (policy, {"device": "rpi4"}, "needs a device whose runtime has an arena, which rpi4 has not"),
        (policy, {"device": "cortex-m7-int8"}, "computes in fp32, and cortex-m7-int8 does not"),
        (policy, {"optimizer": "adam"}, "has no adam: give optimizer=sgd or sgd-momentum"),
        (policy, {"batch": 4, "device": device()}, "takes one image at a time"),
        (statistics, {"batch": 4}, "cannot express batch statistics of several images"),
    ):
        with pytest.raises(UnsupportedError, match=said):
            ts.export(chosen, backbone, to="c", out=out, **options)
    assert list(tmp_path.iterdir()) == []
    assert "c" in EXPORTERS


def test_what_will_not_link_is_told_beforehand(tmp_path):
    profile = device()
    memory = profile.memory.model_copy(
        update={"regions": (profile.memory.regions[0].model_copy(update={"size": 4096}),)}
    )
    small = profile.model_copy(update={"memory": memory})
    with pytest.warns(UserWarning, match=r"bytes of RAM, and other-schedule has 4096 in one piece: it will not link"):
        ts.export(methods.bias(traced(SmallNet)), make(SmallNet), to="c", out=tmp_path / "out", device=small)
    assert "DOES NOT FIT" in (tmp_path / "out" / "README.md").read_text()
