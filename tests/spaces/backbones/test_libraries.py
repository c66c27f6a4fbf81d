"""Backbones of timm and torchvision: the real libraries' networks, small ones, with random weights."""

import hashlib
import importlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tinysearch.core.errors import InputError, MissingDataError
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.choice import default_weights, find_weights, named_backbone
from tinysearch.spaces.backbones.heads import head_names
from tinysearch.spaces.backbones.info import IMAGENET, SYMMETRIC
from tinysearch.spaces.backbones.libraries import built_size
from tinysearch.spaces.backbones.timm_networks import Timm
from tinysearch.testing.networks import images

pytestmark = pytest.mark.usefixtures("libraries")

#: One of each kind: names of heads, heads of convolutions, several heads, sizes that are built in.
NETWORKS = [
    ("timm:mobilenetv3_small_050", None, ("classifier",)),
    ("timm:mobilenetv3_small_050.lamb_in1k", None, ("classifier",)),
    ("timm:test_resnet", None, ("fc",)),
    ("timm:test_byobnet.r160_in1k", None, ("head.fc",)),
    ("timm:test_vit", 96, ("head",)),
    ("timm:test_vit_relpos", 64, ("head",)),
    ("timm:levit_128s", 96, ("head.linear", "head_dist.linear")),
    ("torchvision:mobilenet_v3_small", None, ("classifier.3",)),
    ("torchvision:squeezenet1_1", None, ("classifier.1",)),
    ("torchvision:mnasnet0_5", None, ("classifier.1",)),
    ("torchvision:densenet121", None, ("classifier",)),
    ("torchvision:googlenet", None, ("fc",)),
]


def logits(model: nn.Module, size: int) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images(2, size))


def refusal(name: str, **how: object) -> str:
    with pytest.raises(InputError) as error:
        load_backbone(name, **how)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize(("name", "size", "heads"), NETWORKS)
def test_a_network_of_a_library(tmp_path, name, size, heads):
    model = load_backbone(name, num_classes=7, input_size=size)
    assert vars(model)["backbone_name"] == name
    assert vars(model)["input_size"] == (size or int(vars(load_backbone(name))["input_size"]))
    assert head_names(model, 7) == heads
    assert logits(model, size or 64).shape == (2, 7)
    # The same values at every call, and in a training script's file.
    again = load_backbone(name, num_classes=7, input_size=size)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    trained = {n: v + 0.01 if v.is_floating_point() else v for n, v in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": v for n, v in trained.items()}}, tmp_path / "w.pth")
    loaded = load_backbone(name, num_classes=7, input_size=size, weights=tmp_path / "w.pth").state_dict()
    assert all(torch.equal(loaded[n], value) for n, value in trained.items())
    # Of another number of classes, all but the head.
    fresh = load_backbone(name, num_classes=3, input_size=size).state_dict()
    other = load_backbone(name, num_classes=3, input_size=size, weights=tmp_path / "w.pth").state_dict()
    kept = tuple(f"{head}." for head in heads)
    assert all(torch.equal(value, (fresh if n.startswith(kept) else trained)[n]) for n, value in other.items())


def test_a_file_without_the_head_leaves_it_new(tmp_path):
    source = load_backbone("timm:test_resnet").state_dict()
    save_file({n: v for n, v in source.items() if not n.startswith("fc.")}, tmp_path / "w.safetensors")
    loaded = load_backbone("timm:test_resnet", weights=tmp_path / "w.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.items())
    save_file({n: v for n, v in source.items() if n.startswith("fc.")}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"do not fit this backbone: \d+ missing \(conv1"):
        load_backbone("timm:test_resnet", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "size", "normalisation"),
    [
        ("timm:test_resnet", 160, SYMMETRIC),
        ("timm:mobilenetv3_small_050", 224, IMAGENET),
        ("timm:vit_tiny_patch16_224", 224, SYMMETRIC),
        ("torchvision:mobilenet_v2", 224, IMAGENET),
        # Its own function maps ImageNet's normalisation to this one.
        ("torchvision:googlenet", 224, SYMMETRIC),
    ],
)
def test_size_and_normalisation_are_those_of_the_weights(name, size, normalisation):
    model = load_backbone(name)
    assert (vars(model)["input_size"], vars(model)["normalisation"]) == (size, normalisation)


def test_googlenets_images_are_those_of_torchvision():
    """With its own mapping of ImageNet's normalisation inside, torchvision's network gives the same logits."""
    models = importlib.import_module("torchvision.models")
    ours = load_backbone("torchvision:googlenet").eval()
    theirs = models.get_model("googlenet", num_classes=10, aux_logits=False, transform_input=True, init_weights=False)
    theirs.load_state_dict(ours.state_dict())
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def normalised(to) -> torch.Tensor:
        mean, std = (torch.tensor(values)[:, None, None] for values in to)
        return (pixels - mean) / std

    with torch.no_grad():
        expected = theirs.eval()(normalised(IMAGENET))
        torch.testing.assert_close(ours(normalised(SYMMETRIC)), expected, rtol=1e-4, atol=1e-5)


def test_sizes_that_a_network_is_built_for():
    assert built_size("mobilenetv2-w0.35", 96) is built_size("timm:test_resnet", 96) is None
    assert built_size("timm:vit_tiny_patch16_224", 96) == built_size("torchvision:vit_b_32", 96) == 96
    assert built_size("timm:test_vit", 320) == 160
    assert built_size("timm:efficientformer_l1", 96) == built_size("torchvision:maxvit_t", 96) == 224
    for name in ("timm:efficientformer_l1", "torchvision:maxvit_t"):
        assert refusal(name, input_size=96).endswith("takes images of 224 pixels alone: input_size=224")
    text = refusal("torchvision:vit_b_32", input_size=95)
    assert "cannot be built for images of 95 pixels: AssertionError: Input shape indivisible" in text
    assert text.endswith("its own size is input_size=224")


def test_position_embeddings_of_another_size_are_resampled_by_timm(tmp_path):
    whole = load_backbone("timm:test_vit3")
    assert whole.pos_embed.shape[1] == 1 + (160 // 16) ** 2
    torch.save({"model": whole.state_dict()}, tmp_path / "w.pth")
    small = load_backbone("timm:test_vit3", input_size=96, weights=tmp_path / "w.pth")
    assert small.pos_embed.shape[1] == 1 + (96 // 16) ** 2
    resample = importlib.import_module("timm.layers").resample_abs_pos_embed
    expected = resample(whole.pos_embed, new_size=(6, 6), num_prefix_tokens=1)
    torch.testing.assert_close(small.pos_embed, expected)
    torch.save(load_backbone("timm:test_resnet").state_dict(), tmp_path / "w.pth")
    assert "do not fit this backbone" in refusal("timm:test_vit3", input_size=96, weights=tmp_path / "w.pth")


def test_all_heads_of_a_mean_begin_at_zero_and_are_filled_by_a_file(tmp_path):
    model = load_backbone("timm:levit_128s", num_classes=5)
    assert not logits(model, 224).any()
    with torch.no_grad():
        model.head.linear.weight.fill_(1)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert load_backbone("timm:levit_128s", num_classes=5, weights=tmp_path / "w.pth").head.linear.weight.all()
    assert not load_backbone("timm:levit_128s", num_classes=4, weights=tmp_path / "w.pth").head.linear.weight.any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:mobilenetv3_smal_050", "did you mean timm:mobilenetv3_small_050 or "),
        (
            "timm:mobilenetv3_small_050.mine",
            "no weights 'mine' of it: did you mean timm:mobilenetv3_small_050.lamb_in1k?",
        ),
        ("timm:zzz", r"timm has no such network (its list_models() has "),
        ("timm:", "timm has no such network"),
        # What timm itself would fetch or look for on the disk.
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm has no such network"),
        ("timm:local-dir:/tmp", "timm has no such network"),
        ("torchvision:resnet19", "did you mean torchvision:resnet18"),
        ("torchvision:fcn_resnet50", "of another task, or quantised"),
        ("torchvision:quantized_resnet18", "of another task, or quantised"),
        ("torchvision:models:resnet18", "torchvision has no such network"),
    ],
)
def test_unknown_names_are_told_the_closest(name, expected):
    text = refusal(name)
    assert expected in text
    assert name in text


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_library_that_is_missing_or_broken_is_one_line(monkeypatch, package, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'tinysearch[{package}]'" in refusal(f"{package}:resnet18")
    (tmp_path / f"{package}.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert "nms does not exist; torch and torchvision must be of one build" in refusal(f"{package}:resnet18")


def test_no_file_of_the_folder_that_one_is_in_passes_for_a_library(monkeypatch, tmp_path):
    class Acme(Timm):
        package = "acme_networks"

    (tmp_path / "acme_networks.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    with pytest.raises(InputError, match="need it installed"):
        Acme().imported()
    assert not (tmp_path / "ran").exists()
    assert sys.path[-1] == ""
    importlib.import_module("acme_networks")  # as a backbone of one's own would be
    assert (tmp_path / "ran").exists()


def test_names_of_libraries_are_no_code_of_someone_elses():
    assert named_backbone(None, "timm:test_resnet", "policy.json") == "timm:test_resnet"
    with pytest.raises(InputError, match=r"backbone=timm\.models:test_resnet"):
        named_backbone(None, "timm.models:test_resnet", "policy.json")


def test_what_is_published_is_the_default():
    assert default_weights("timm:test_resnet") == default_weights("torchvision:resnet18") == "imagenet"
    assert find_weights("timm:test_resnet", for_costs=True) is None
    assert default_weights("timm:test_resnet.r160_in1k") == "imagenet"
    assert default_weights("timm:darknet17") is None
    assert refusal("timm:darknet17", weights="imagenet").startswith(
        "timm publishes no weights of darknet17: pass weights="
    )
    assert "bundled weights are for" in refusal("timm:test_resnet", weights="bundled")


def test_timms_published_weights_are_loaded_by_timm(monkeypatch, tmp_path):
    """From a file in place of the hub's: a new head of another number of classes, embeddings of another size."""
    registry = importlib.import_module("timm.models._registry")
    source = load_backbone("timm:test_vit3", num_classes=1000).state_dict()
    source = {name: value + 1 for name, value in source.items()}
    save_file(source, tmp_path / "model.safetensors")
    entry = registry._model_pretrained_cfgs["test_vit3"]
    monkeypatch.setattr(entry, "file", str(tmp_path / "model.safetensors"))
    for classes, size in ((1000, None), (10, None), (10, 96)):
        model = load_backbone("timm:test_vit3", num_classes=classes, input_size=size, weights="imagenet")
        found = model.state_dict()
        assert torch.equal(found["blocks.0.mlp.fc1.weight"], source["blocks.0.mlp.fc1.weight"])
        assert torch.equal(found["head.weight"], source["head.weight"]) == (classes == 1000)
        assert logits(model, size or 160).shape == (2, classes)


def test_torchvisions_published_weights_are_loaded_from_its_cache(monkeypatch, tmp_path):
    models = importlib.import_module("torchvision.models")
    weights = next(iter(models.get_model_weights("squeezenet1_1")))
    source = load_backbone("torchvision:squeezenet1_1", num_classes=1000).state_dict()
    source = {name: value + 1 for name, value in source.items()}
    torch.save(source, tmp_path / "new")
    file = f"net-{hashlib.sha256((tmp_path / 'new').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "new").rename(tmp_path / file)
    monkeypatch.setattr(weights.value, "url", (tmp_path / file).as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    found = load_backbone("torchvision:squeezenet1_1", weights="imagenet").state_dict()
    assert torch.equal(found["features.0.weight"], source["features.0.weight"])
    assert found["classifier.1.weight"].shape[0] == 10
    assert [path.name for path in (tmp_path / "cache").rglob("*.pth")] == [file]


@pytest.fixture
def nowhere() -> str:
    """An address where nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_without_a_network_the_message_says_the_way_out(monkeypatch, tmp_path, nowhere, name):
    hub = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(hub, "ENDPOINT", nowhere)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    weights = next(iter(importlib.import_module("torchvision.models").get_model_weights("squeezenet1_1")))
    monkeypatch.setattr(weights.value, "url", f"{nowhere}/squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before, offline = time.perf_counter(), hub.HF_HUB_OFFLINE
    with pytest.raises(MissingDataError, match=f"cannot get the weights of {name} .*Error") as error:
        load_backbone(name, weights="imagenet")
    assert time.perf_counter() - before < 10  # left to itself, the hub's client tries for 46 seconds
    assert offline == hub.HF_HUB_OFFLINE
    told = error.value.told(lambda option: f"--{option.replace('=', ' ')}")
    assert "pass --weights FILE, or --weights none for random ones" in told
    assert "\n" not in told


def test_the_libraries_are_imported_when_they_are_named(imported):
    code = "from tinysearch.spaces.backbones import list_backbones; list_backbones()"
    assert imported(code, {"timm", "torchvision", "huggingface_hub"}) == []


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_network_is_built_in_a_process_of_its_own(package):
    """Where nothing was declared before: torchvision's own operators load, or are done without."""
    name = {"timm": "timm:test_resnet", "torchvision": "torchvision:squeezenet1_1"}[package]
    code = f"import tinysearch as ts; print(ts.load_backbone({name!r}).backbone_name)"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == name


def test_weights_that_fit_one_size_alone_say_so(monkeypatch, tmp_path):
    registry = importlib.import_module("timm.models._registry")
    save_file(load_backbone("timm:gmlp_ti16_224", num_classes=1000).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(registry._model_pretrained_cfgs["gmlp_ti16_224"], "file", str(tmp_path / "w.safetensors"))
    expected = "the weights of timm:gmlp_ti16_224 fit no images of 96 pixels: input_size=224"
    assert refusal("timm:gmlp_ti16_224", weights="imagenet", input_size=96) == expected
    assert load_backbone("timm:gmlp_ti16_224", weights="imagenet").head.out_features == 10


def test_an_old_name_is_told_the_new_one():
    assert refusal("timm:tf_efficientnet_b0_ns").endswith("is an old name: take timm:tf_efficientnet_b0.ns_jft_in1k")
