"""The recipe of the bundled backbone runs, and draws what it says."""

import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tinysearch.search.data import load_dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def recipe() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import pretrain_bundled

        yield pretrain_bundled


@pytest.fixture(scope="module")
def bank(recipe: ModuleType) -> Any:
    return recipe.build_bank(glyphs=12, fractals=2)


def run(recipe: ModuleType, out: Path, *options: str) -> Any:
    arguments = ["train", "--out", str(out), "--steps", "2", "--glyphs", "8", "--fractals", "1", *options]
    return CliRunner().invoke(recipe.main, arguments)


@pytest.fixture(scope="module")
def whole(recipe: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "w.safetensors"
    result = run(recipe, out)
    assert result.exit_code == 0, result.output
    assert "step 2/2" in result.output
    return out


def test_two_steps_give_a_loadable_file(recipe: ModuleType, whole: Path) -> None:
    assert list(whole.parent.iterdir()) == [whole]
    model = recipe.load_backbone(whole)
    assert model.features[0][1].num_batches_tracked == 2


def test_a_stopped_run_goes_on_where_it_was(
    recipe: ModuleType, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "SAVE_EVERY", 1)
    with monkeypatch.context() as stop:
        step = recipe._train_step
        calls: list[int] = []

        def once(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return step(*arguments)

        stop.setattr(recipe, "_train_step", once)
        assert run(recipe, tmp_path / "parts.safetensors").exit_code != 0
    assert (tmp_path / "parts.state").is_file()
    assert "another training" in run(recipe, tmp_path / "parts.safetensors", "--seed", "1").output
    assert run(recipe, tmp_path / "parts.safetensors").exit_code == 0
    at_once, in_parts = recipe.load_file(whole), recipe.load_file(tmp_path / "parts.safetensors")
    assert all(torch.equal(at_once[name], in_parts[name]) for name in at_once)


def test_drawn_images_are_a_data_set_of_even_classes(recipe: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "drawn.npz"
    options = ["--per-class", "3", "--glyphs", "8", "--fractals", "1"]
    result = CliRunner().invoke(recipe.main, ["draw", "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    dataset = load_dataset(str(out))
    classes = len(dataset.classes)
    assert np.bincount(dataset.train.labels).tolist() == [3] * classes
    assert np.bincount(dataset.test.labels).tolist() == [recipe.DRAWN_TEST] * classes
    images, labels, _ = recipe.draw_batch(recipe.build_bank(8, 1), 1, 0, recipe.BATCH, recipe.DIFFICULTY)
    first = int((labels == 0).nonzero()[0])
    drawn = dataset.train.load([0], recipe.IMAGE_SIZE)[0]
    assert torch.equal(drawn, ((images[first] + 1) * 127.5).round().to(torch.uint8))


def test_drawing_depends_on_seed_and_step_alone(recipe: ModuleType, bank: Any) -> None:
    torch.manual_seed(1)
    images, labels, textures = recipe.draw_batch(bank, 0, 5, 24)
    torch.manual_seed(2)
    again = recipe.draw_batch(bank, 0, 5, 24)
    assert all(torch.equal(a, b) for a, b in zip((images, labels, textures), again, strict=True))
    assert not torch.equal(images, recipe.draw_batch(bank, 0, 6, 24)[0])
    assert not torch.equal(images, recipe.draw_batch(bank, 1, 5, 24)[0])


def test_images_are_what_the_network_expects(recipe: ModuleType, bank: Any) -> None:
    images, labels, textures = recipe.draw_batch(bank, 0, 0, 256)
    assert images.shape == (256, 3, 48, 48)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < -0.9
    assert 0.9 < images.max() <= 1
    assert set(labels.tolist()) == set(range(len(bank)))
    assert set(textures.tolist()) <= set(range(len(recipe.TEXTURES)))


def test_easy_images_are_grey_ink_on_a_flat_ground(recipe: ModuleType, bank: Any) -> None:
    images, _, textures = recipe.draw_batch(bank, 0, 0, 32, difficulty=0.0)
    assert not textures.any()
    torch.testing.assert_close(images[:, :1].expand_as(images), images)
    assert (images.amax((1, 2, 3)) - images.amin((1, 2, 3))).min() > 0.1


def test_bank_is_repeatable_and_has_ink_in_every_mask(recipe: ModuleType, bank: Any) -> None:
    again = recipe.build_bank(glyphs=12, fractals=2)
    assert torch.equal(bank.masks, again.masks)
    assert len(bank) == len(bank.characters) + 2
    assert int(bank.count.sum()) == len(bank.masks)
    assert (bank.masks.amax((1, 2)) > 128).all()


def test_no_class_is_a_digit_and_alike_letters_are_one(recipe: ModuleType) -> None:
    classes = recipe.build_bank(fractals=0).characters
    assert not any(unicodedata.numeric(char, None) is not None for char in "".join(classes))
    (latin_a,) = (group for group in classes if "A" in group)
    assert {"A", "\N{GREEK CAPITAL LETTER ALPHA}", "\N{CYRILLIC CAPITAL LETTER A}"} <= set(latin_a)
    assert sum("c" in group or "C" in group for group in classes) == 1
