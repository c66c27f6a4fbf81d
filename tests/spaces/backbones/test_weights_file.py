"""Weights files that say what they are for, in both formats."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tinysearch.core.errors import InputError
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.checkpoint import read_checkpoint
from tinysearch.spaces.backbones.info import IMAGENET, SYMMETRIC
from tinysearch.spaces.backbones.weights_file import (
    FORMAT,
    SUFFIXES,
    WeightsHeader,
    check_weights_path,
    read_header,
    write_weights,
)

NAME = "mobilenetv2-w0.35"
HEADER = WeightsHeader(backbone=NAME, input_size=64, normalisation=IMAGENET, origin={"source": "grüße"})


def features() -> dict[str, torch.Tensor]:
    state = load_backbone(NAME).state_dict()
    return {name: value + 1 for name, value in state.items() if not name.startswith("classifier.")}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_network_takes_its_size_and_normalisation_from_the_file(suffix: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / f"w{suffix}", features(), HEADER)
    assert read_header(path) == HEADER
    network = load_backbone(NAME, num_classes=3, weights=path)
    assert (network.input_size, network.normalisation) == (64, IMAGENET)
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in features().items())
    assert load_backbone(NAME, input_size=32, weights=path).input_size == 32


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_backbone_of_the_same_names_is_warned_of(suffix: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / f"w{suffix}", features(), HEADER)
    with pytest.warns(UserWarning, match=f"were trained as {NAME}: as {NAME}-tf they lose accuracy"):
        load_backbone(f"{NAME}-tf", weights=path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_programs_see_a_plain_mapping(suffix: str, tmp_path: Path) -> None:
    path = write_weights(tmp_path / f"w{suffix}", features(), HEADER)
    assert read_checkpoint(path).keys() == features().keys()
    network = load_backbone(NAME)
    loaded = network.load_state_dict(read_checkpoint(path), strict=False)
    assert (loaded.unexpected_keys, loaded.missing_keys) == ([], ["classifier.1.weight", "classifier.1.bias"])


def test_files_of_other_programs_say_nothing(tmp_path: Path) -> None:
    torch.save(features(), tmp_path / "a.pth")
    torch.save(load_backbone(NAME).state_dict(), tmp_path / "b.pth")  # with PyTorch's own metadata
    save_file(features(), tmp_path / "c.safetensors")
    save_file(features(), tmp_path / "d.safetensors", {"format": "pt"})
    for path in sorted(tmp_path.iterdir()):
        assert read_header(path) is None
        assert load_backbone(NAME, weights=path).normalisation == SYMMETRIC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ('{"format": "tinysearch.delta", "version": 1}', "no weights file"),
        (FORMAT.text(HEADER.model_dump(mode="json") | {"input_size": 0}), "input_size"),
        (FORMAT.text(HEADER.model_dump(mode="json") | {"normalisation": [[0, 0, 0]]}), "normalisation"),
        (FORMAT.text(HEADER.model_dump(mode="json") | {"colour": "red"}), "colour"),
    ],
)
def test_what_a_file_cannot_mean_is_refused(text: str, said: str, tmp_path: Path) -> None:
    save_file(features(), tmp_path / "w.safetensors", {FORMAT.name: text})
    with pytest.raises(InputError, match=said):
        load_backbone(NAME, weights=tmp_path / "w.safetensors")


def test_a_newer_format_is_read_with_a_warning(tmp_path: Path) -> None:
    text = FORMAT.text(HEADER.model_dump(mode="json") | {"colour": "red"}).replace('"version": 1', '"version": 2')
    save_file(features(), tmp_path / "w.safetensors", {FORMAT.name: text})
    with pytest.warns(UserWarning, match="newer format"):
        assert load_backbone(NAME, weights=tmp_path / "w.safetensors").input_size == 64


def test_a_path_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    for path, said in (
        (tmp_path / "w.pt", "written as .safetensors or .pth"),
        (tmp_path / "gone" / "w.pth", "there is no folder"),
        (tmp_path / "folder.pth", "is a folder: name a file"),
    ):
        with pytest.raises(InputError, match=said):
            check_weights_path(path)
