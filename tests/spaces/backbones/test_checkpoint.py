"""Weight files: what is accepted, and what each kind of bad file is told."""

import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tinysearch.core.errors import InputError, MissingDataError
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.checkpoint import MAX_BYTES, load_into, read_checkpoint

NAME = "mobilenetv2-w0.1"


def trained(name: str = NAME, num_classes: int = 10) -> nn.Module:
    """A backbone whose values, statistics included, differ from the initial ones."""
    model = load_backbone(name, num_classes=num_classes)
    generator = torch.Generator().manual_seed(3)
    for key, value in model.state_dict().items():
        if key.endswith(("running_var", "num_batches_tracked")):
            value.fill_(2)
        else:
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(4)))


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("name", [NAME, "mobilenetv3-small-w0.1", "mcunet-5fps", "proxylessnas-mobile"])
def test_a_saved_backbone_loads_back(tmp_path, name, suffix):
    model, path = trained(name), tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    loaded = load_backbone(name, weights=path)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_half_precision_loads_into_float(tmp_path):
    save_file({k: v.half() for k, v in trained().state_dict().items()}, tmp_path / "w.safetensors")
    loaded = load_backbone(NAME, weights=tmp_path / "w.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(loaded), logits(trained()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (NAME, "classifier.1"),
        ("mobilenetv3-small-w0.1", "classifier.3"),
        ("mcunet-5fps", "classifier"),
        ("proxylessnas-mobile", "classifier.linear"),
    ],
)
def test_a_head_of_another_class_count_is_dropped_and_no_more(tmp_path, name, head):
    source, path = trained(name, num_classes=1000).state_dict(), tmp_path / "w.pth"
    torch.save(source, path)
    fresh, loaded = load_backbone(name).state_dict(), load_backbone(name, weights=path).state_dict()
    for key, value in loaded.items():
        assert torch.equal(value, (fresh if key.startswith(f"{head}.") else source)[key]), key


@pytest.mark.parametrize("name", [NAME, "mobilenetv3-small-w0.1", "mcunet-5fps", "proxylessnas-mobile"])
def test_a_checkpoint_without_classifier_leaves_the_head_as_it_was(tmp_path, name):
    source = {k: v for k, v in trained(name).state_dict().items() if not k.startswith("classifier")}
    torch.save(source, tmp_path / "w.pth")
    fresh, loaded = (
        load_backbone(name).state_dict(),
        load_backbone(name, weights=tmp_path / "w.pth").state_dict(),
    )
    for key, value in loaded.items():
        assert torch.equal(value, source.get(key, fresh[key])), key


def test_half_a_classifier_is_refused(tmp_path):
    state = trained("mobilenetv3-small-w0.1").state_dict()
    del state["classifier.0.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"1 missing \(classifier\.0\.weight\)"):
        load_backbone("mobilenetv3-small-w0.1", weights=tmp_path / "w.pth")


def test_counters_may_be_absent(tmp_path):
    model = trained()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    assert torch.equal(logits(load_backbone(NAME, weights=tmp_path / "w.pth")), logits(model))


@pytest.mark.parametrize("name", [NAME, f"{NAME}-tf", "mobilenetv3-small-w0.1", "proxylessnas-mobile"])
def test_folded_norms_unfold_to_the_same_function(tmp_path, name):
    """Fold by the textbook formula; the loaded network must compute what the unfolded one did."""
    model = trained(name)
    state = model.state_dict()
    for parent, sequence in model.named_modules():
        children = list(sequence.named_children()) if isinstance(sequence, nn.Sequential) else []
        for (conv, _), (norm, module) in pairwise(children):
            if isinstance(module, nn.BatchNorm2d):
                scale = module.weight / torch.sqrt(module.running_var + module.eps)
                state[f"{parent}.{conv}.weight"] = state[f"{parent}.{conv}.weight"] * scale[:, None, None, None]
                state[f"{parent}.{conv}.bias"] = module.bias - module.running_mean * scale
                for entry in module.state_dict():
                    del state[f"{parent}.{norm}.{entry}"]
    assert not any("running" in key for key in state)
    torch.save(state, tmp_path / "w.pth")
    torch.testing.assert_close(
        logits(load_backbone(name, weights=tmp_path / "w.pth")), logits(model), rtol=1e-3, atol=1e-4
    )


def test_a_convolutional_classifier_loads_into_a_linear_one(tmp_path):
    model = trained("mcunet-5fps")
    state = model.state_dict()
    state["classifier.weight"] = state["classifier.weight"][:, :, None, None]
    torch.save(state, tmp_path / "w.pth")
    assert torch.equal(logits(load_backbone("mcunet-5fps", weights=tmp_path / "w.pth")), logits(model))


def test_another_width_is_told_in_one_line(tmp_path):
    torch.save(trained("mobilenetv2-w0.5").state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"of another shape or type \(features\.0\.0\.weight \(16, ") as error:
        load_backbone(NAME, weights=tmp_path / "w.pth")
    assert "missing" not in message(error)


def test_another_network_is_told_in_one_line(tmp_path):
    torch.save(trained("mcunet-5fps").state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"missing \(features.*, \.\.\.\); \d+ unexpected \(first_conv") as error:
        load_backbone(NAME, weights=tmp_path / "w.pth")
    message(error)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("features.3.conv.2.weight"), r"1 missing \(features\.3\.conv\.2\.weight\)$"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)$"),
        (
            lambda s: s.update({"features.0.0.weight": torch.ones(8, 3, 3, 3, dtype=torch.int8)}),
            "int8 for float",
        ),
        (lambda s: s["features.0.0.weight"].view(-1)[5].fill_(float("nan")), "1 with NaN or infinity"),
        (lambda s: s["features.0.1.running_var"].fill_(float("inf")), "1 with NaN or infinity"),
        (
            lambda s: s.update({"classifier.1.bias": torch.ones(11)}),
            r"classifier\.1\.bias \(11,\) for \(10,\)",
        ),
        (lambda s: s.update({"classifier.1.weight": torch.tensor(1.0)}), None),
        (lambda s: s.update({"features.0.0.bias": torch.ones(8)}), r"1 unexpected \(features\.0\.0\.bias\)"),
    ],
)
def test_every_single_flaw_is_found(tmp_path, change, expected):
    state = trained().state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    if expected is None:  # a head that cannot fit is dropped like one of other classes
        load_backbone(NAME, weights=tmp_path / "w.pth")
        return
    with pytest.raises(InputError, match=expected) as error:
        load_backbone(NAME, weights=tmp_path / "w.pth")
    message(error)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_code_never_runs(tmp_path):
    for write in (torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))):
        path, trace = tmp_path / "w.pth", tmp_path / "ran"
        write({"features.0.0.weight": Bomb(trace)}, path)
        with pytest.raises(InputError, match=r"not a checkpoint that can be read safely \(UnpicklingError\)") as error:
            read_checkpoint(path)
        message(error)
        assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"<html>404</html>", bytes(range(256)) * 40, b"PK\x03\x04junk"]
)
def test_bytes_that_are_no_checkpoint(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a checkpoint|no safetensors file|cannot be read") as error:
        read_checkpoint(path)
    assert str(path) in message(error)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(trained().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"not a checkpoint|no safetensors file|cannot be read") as error:
        read_checkpoint(path)
    message(error)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.ones(1)],
        torch.ones(3),
        {"epoch": 3},
        {"state_dict": {"a": 1}},
        {"state_dict": {"state_dict": {"state_dict": {"state_dict": {"a": torch.ones(1)}}}}},
        {"mine": {"a": torch.ones(1)}},
        {1: torch.ones(1)},
        {"a": torch.eye(3).to_sparse()},
        {"a": torch.ones(3, device="meta")},
    ],
)
def test_files_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"save model\.state_dict\(\)") as error:
        read_checkpoint(tmp_path / "w.pth")
    message(error)


def test_oversized_files_are_refused_unread(tmp_path):
    path = tmp_path / "w.pth"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(InputError, match="is more than the 1073741824"):
        read_checkpoint(path)


def test_a_compressed_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    block = bytes(1 << 24)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range((MAX_BYTES >> 24) + 1):
            member.write(block)
    assert path.stat().st_size < MAX_BYTES // 100
    with pytest.raises(InputError, match=r"unpacks to .* the limit is"):
        read_checkpoint(path)


def test_missing_and_misnamed_files(tmp_path):
    with pytest.raises(MissingDataError, match=r"no weights file at .*none\.pth$"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(MissingDataError, match="no weights file at"):
        read_checkpoint(Path("folder.pth"))
    with pytest.raises(InputError, match=r"expected 'imagenet', 'bundled' or a \.pth, .* file"):
        load_backbone(NAME, weights="imagnet")


def test_a_model_without_linear_head_must_match_throughout():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    load_into(model, {"0.weight": torch.ones(4, 3, 1, 1), "0.bias": torch.zeros(4)}, "w")
    assert model[0].weight.sum() == 12
    with pytest.raises(InputError, match=r"1 missing \(0\.bias\)"):
        load_into(model, {"0.weight": torch.ones(4, 3, 1, 1)}, "w")
