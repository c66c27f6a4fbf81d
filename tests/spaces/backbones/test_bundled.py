"""The weights that ship with the package are what their model card says."""

import json
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
    assert backbone.features[0][1].num_batches_tracked == 8000


def test_no_digit_among_the_classes(metadata: dict[str, str]) -> None:
    characters = "".join(json.loads(metadata["characters"]))
    assert len(characters) > 300
    for character in characters:
        assert unicodedata.digit(character, None) is None
        assert unicodedata.numeric(character, None) is None
        assert not unicodedata.category(character).startswith("N")


def test_metadata_and_card_say_where_it_comes_from(metadata: dict[str, str]) -> None:
    assert {"recipe", "seed", "steps", "torch", "source", "input", "license", "digits_accuracy"} <= set(metadata)
    card = CARD.read_text(encoding="utf-8")
    assert f"{float(metadata['digits_accuracy']):.1%}".replace("%", " %") in card


def test_digits_accuracy_is_as_stated(
    backbone: MobileNetV2, metadata: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from bundled.probe import digits_split, linear_probe

    # Other processors and versions round differently; 500 test images, so this is four of them.
    assert linear_probe(backbone, digits_split()) == pytest.approx(float(metadata["digits_accuracy"]), abs=0.008)
