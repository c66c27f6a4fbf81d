"""Decoding and resizing: every mode and shape ends as RGB of the size asked for, or in one clear line."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tinysearch.core.errors import InputError
from tinysearch.search.data.images import ArraySplit, FileSplit, ImageFile, Subset, decode


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def load_one(content: bytes, size: int) -> torch.Tensor:
    return FileSplit([ImageFile("picture", content)], [0]).load([0], size)[0]


@pytest.mark.parametrize(
    ("mode", "colour", "image_format", "expected"),
    [
        ("L", 100, "PNG", (100, 100, 100)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("RGB", (10, 20, 30), "PNG", (10, 20, 30)),
        ("RGB", (10, 20, 30), "BMP", (10, 20, 30)),
        ("RGB", (10, 20, 30), "PPM", (10, 20, 30)),
        ("RGB", (10, 20, 30), "TIFF", (10, 20, 30)),
        ("CMYK", (255, 0, 0, 0), "JPEG", (0, 255, 255)),
        ("RGBA", (10, 20, 30, 255), "PNG", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "PNG", (255, 255, 255)),
        ("LA", (0, 0), "PNG", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, image_format, expected):
    pixels = load_one(encoded(Image.new(mode, (8, 8), colour), image_format), 8)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 8, 8)
    assert pixels.amax((1, 2)).tolist() == pytest.approx(expected, abs=2)
    assert pixels.amin((1, 2)).tolist() == pytest.approx(expected, abs=2)


def test_palette_images_keep_their_colours_and_transparency():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert load_one(encoded(image), 4)[:, 0, 0].tolist() == [200, 100, 50]
    assert load_one(encoded(image, transparency=1), 4)[:, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("side", ["wide", "tall"])
def test_a_long_image_is_cropped_to_its_centre(side):
    # Red, green, blue thirds: the centred square is the green one.
    thirds = np.zeros((30, 90, 3), np.uint8)
    for third in range(3):
        thirds[:, 30 * third : 30 * (third + 1), third] = 255
    pixels = thirds if side == "wide" else thirds.transpose(1, 0, 2)
    result = load_one(encoded(Image.fromarray(np.ascontiguousarray(pixels))), 10)
    # The outermost pixels see a little of their neighbours outside the crop, as after a resize of the whole.
    assert result[1, 1:-1, 1:-1].min() == 255
    assert result[[0, 2], 1:-1, 1:-1].max() == 0
    assert result[1].min() > 200


def test_shrinking_is_antialiased():
    # Single-pixel stripes: sampling without a filter would keep black or white.
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    interior = ArraySplit(stripes[None], [0]).load([0], 8)[0, :, 1:-1, 1:-1]
    assert interior.min() > 110
    assert interior.max() < 145


def test_images_of_the_size_asked_for_are_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    loaded = ArraySplit(pixels, [0, 1, 2]).load([2, 0], 6)
    assert np.array_equal(loaded.permute(0, 2, 3, 1).numpy(), pixels[[2, 0]])


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    upright = load_one(encoded(image, "PNG", exif=exif), 8)
    assert upright[:, 0].max() == 0
    assert upright[:, 7].min() == 255


def test_no_indices_give_an_empty_batch():
    assert ArraySplit(np.zeros((2, 8, 8), np.uint8), [0, 1]).load([], 5).shape == (0, 3, 5, 5)


@pytest.mark.parametrize("index", [-1, 2])
def test_positions_outside_the_split_are_refused(index):
    with pytest.raises(IndexError, match=r"0\.\.1"):
        ArraySplit(np.zeros((2, 8, 8), np.uint8), [0, 1]).load([index], 5)


def test_size_zero_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        ArraySplit(np.zeros((2, 8, 8), np.uint8), [0, 1]).load([0], 0)


def test_labels_cannot_be_changed():
    labels = np.array([0, 1])
    split = ArraySplit(np.zeros((2, 8, 8), np.uint8), labels)
    labels[0] = 7
    assert split.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1


def test_only_the_files_asked_for_are_decoded():
    good = ImageFile("good", encoded(Image.new("RGB", (4, 4))))
    split = FileSplit([good, ImageFile("broken", b"no image")], [0, 1])
    assert split.load([0, 0], 4).shape == (2, 3, 4, 4)
    with pytest.raises(InputError, match="'broken' is damaged"):
        split.load([0, 1], 4)


def test_an_image_that_declares_too_many_pixels_is_refused_undecoded():
    # A PPM is its header and raw bytes: this one is 19 bytes long.
    with pytest.raises(InputError, match=r"'picture' declares 9000x9000 pixels.*40,000,000"):
        load_one(b"P6 9000 9000 255\n..", 8)
    with pytest.raises(InputError, match="cannot be decoded"):
        load_one(b"P6 90000 90000 255\n..", 8)


def test_deep_pixels_are_refused_instead_of_clipped():
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    with pytest.raises(InputError, match="more than 8 bits"):
        load_one(encoded(deep), 8)


def test_formats_that_run_other_programs_are_not_decoded():
    with pytest.raises(InputError, match="damaged or none of"):
        load_one(encoded(Image.new("RGB", (8, 8)), "EPS"), 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP", "PPM", "WEBP", "GIF", "TIFF"])
def test_damaged_files_decode_or_end_in_an_input_error(image_format):
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    content = np.frombuffer(encoded(noise, image_format), np.uint8)
    lines = []
    for _ in range(150):
        damaged = content[: rng.integers(1, len(content) + 1)].copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        try:
            assert load_one(damaged.tobytes(), 8).shape == (3, 8, 8)
        except InputError as error:
            lines.append(str(error))
    assert lines
    assert all("'picture'" in line and "\n" not in line for line in lines)


def test_a_digest_tells_images_apart(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    arrays = ArraySplit(pixels, [0, 1])
    assert arrays.digest == ArraySplit(pixels.copy(), [0, 1]).digest
    others = [ArraySplit(255 - pixels, [0, 1]), ArraySplit(pixels, [1, 0]), Subset(arrays, [1, 0]), Subset(arrays, [0])]
    for number, size in enumerate((3, 3, 5)):
        (tmp_path / f"{number}.png").write_bytes(bytes([number]) * size)
    files = [ImageFile(str(tmp_path / f"{number}.png"), tmp_path / f"{number}.png") for number in range(3)]
    held = [ImageFile("a", b"one"), ImageFile("a", b"two")]
    others += [FileSplit(files[:2], [0, 1]), FileSplit(files[1:], [0, 1]), FileSplit(held, [0, 1])]
    others += [FileSplit(held[::-1], [0, 1])]
    assert len({split.digest for split in (arrays, *others)}) == len(others) + 1


def test_a_jpeg_that_is_drawn_over_and_over_is_refused_and_what_it_carries_beside_is_not_counted():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    good = encoded(Image.fromarray(noise), "JPEG", progressive=True)
    last = good.rindex(b"\xff\xda")
    scan = good[last:-2]
    many = b"\xff\xda" * 200
    comment = b"\xff\xfe" + (len(many) + 2).to_bytes(2) + many
    for harmless in (good, good + many, good[:2] + comment + good[2:], good[:-2] + 20 * scan + good[-2:]):
        assert decode(ImageFile("picture", harmless)).size == (64, 64)
    for filler in (b"", b"\xff\x01", b"\xff\xff"):
        with pytest.raises(InputError, match="more than 100 scans"):
            decode(ImageFile("picture", good[:-2] + 200 * (filler + scan) + good[-2:]))


def test_a_ppm_whose_header_does_not_end_is_refused_at_once():
    for comments in (b"#\n" * 3000, b"#" * 9000):
        with pytest.raises(InputError, match="its header has more than"):
            decode(ImageFile("picture", b"P6 " + comments + b"8 8 255\n" + b"\0" * 192))
    assert decode(ImageFile("picture", b"P6 # a word\n 8 8\n255\n" + b"\7" * 192)).size == (8, 8)
