"""The weights that ship with the package are what their model card says."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = ROOT / "spaces" / "backbones" / "mobilenetv2-w0.35-bundled.safetensors"
CARD = WEIGHTS.with_name("BUNDLED.md")


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    with safe_open(WEIGHTS, framework="pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def backbone() -> MobileNetV2:
    model = MobileNetV2(0.35)
    model.features.load_state_dict(
        {name.removeprefix("features."): tensor for name, tensor in load_file(WEIGHTS).items()}, strict=True
    )
    return model.eval()


def test_small_enough_for_the_wheel() -> None:
    assert WEIGHTS.stat().st_size <= 2_000_000


def test_holds_the_features_and_nothing_else(backbone: MobileNetV2) -> None:
    expected = {name for name in backbone.state_dict() if not name.startswith("classifier.")}
    assert set(load_file(WEIGHTS)) == expected


def test_weights_are_finite_and_trained(backbone: MobileNetV2) -> None:
    assert all(tensor.isfinite().all() for tensor in backbone.state_dict().values())
    assert all(m.running_var.min() > 0 for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert backbone.features[0][1].num_batches_tracked == 2000


def test_no_digit_among_the_classes(metadata: dict[str, str]) -> None:
    characters = "".join(json.loads(metadata["characters"]))
    assert len(characters) > 300
    for character in characters:
        assert unicodedata.digit(character, None) is None
        assert unicodedata.numeric(character, None) is None
        assert not unicodedata.category(character).startswith("N")


def test_metadata_says_where_it_comes_from(metadata: dict[str, str]) -> None:
    assert {"recipe", "seed", "steps", "torch", "source", "input", "license"} <= set(metadata)
    assert int(metadata["steps"]) == 2000


@pytest.mark.parametrize("row", ["digits, 1,297 training images, 500 test", "digits, 25 a class, nearest centroid"])
def test_digits_accuracies_are_as_the_card_states(
    row: str, backbone: MobileNetV2, metadata: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from bundled.probe import centroid_probe, digits_split, linear_probe

    (stated,) = re.findall(rf"{re.escape(row)} \| ([\d.]+) %", CARD.read_text(encoding="utf-8"))
    split = digits_split()
    if row.endswith("centroid"):
        measured = centroid_probe(backbone, split, shot=25)
        assert float(metadata["digits_centroid_accuracy"]) == pytest.approx(float(stated) / 100, abs=0.0006)
    else:
        measured = linear_probe(backbone, split)
    # Other processors and versions round differently: four of the 500 test images.
    assert measured == pytest.approx(float(stated) / 100, abs=0.008)
