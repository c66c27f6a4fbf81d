"""The shapes to be named: letters, symbols and fractals, as masks that are rendered once.

No character with a digit or numeric value, in any script, is among them.
"""

import math
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MASK_SIZE = 64
FRACTALS = 64
#: Code points looked at, from the first to before the last.
BLOCKS = {
    "Latin": (0x0041, 0x007B),
    "Latin, more": (0x00C6, 0x0100),
    "Greek": (0x0391, 0x03CA),
    "Cyrillic": (0x0402, 0x0460),
    "Armenian": (0x0531, 0x0588),
    "Hebrew": (0x05D0, 0x05EB),
    "Arabic": (0x0621, 0x064B),
    "N'Ko": (0x07CA, 0x07EB),
    "Georgian": (0x10D0, 0x10F7),
    "arrows": (0x2190, 0x2198),
    "shapes": (0x25A0, 0x25D0),
    "dingbats": (0x2701, 0x2720),
}
_CATEGORIES = ("Lu", "Ll", "Lo", "Sm", "So")
_FONTS = ("DejaVu*.ttf", "STIXGeneral*.ttf")
_REFERENCE_FONT = "DejaVuSans.ttf"
_VARIANTS = 20


@dataclass(frozen=True)
class Bank:
    """Masks of all classes.

    Attributes:
        masks: uint8 (M, 64, 64), those of one class side by side.
        first: int64 (C,), where each class begins in `masks`.
        count: int64 (C,), how many masks it has.
        characters: The characters merged into each glyph class; the fractal classes follow them.
    """

    masks: Tensor
    first: Tensor
    count: Tensor
    characters: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.first)

    def to(self, device: torch.device) -> "Bank":
        """The same bank on another device."""
        return replace(self, masks=self.masks.to(device), first=self.first.to(device), count=self.count.to(device))


def build_bank(glyphs: int | None = None, fractals: int = FRACTALS) -> Bank:
    """Render all glyph classes (or the first few) in every font that has them, then the fractals."""
    fonts = _fonts()
    groups = _merge_homoglyphs(fonts)[:glyphs]
    classes = [
        [_render(font, char) for char in group for font, chars in fonts.items() if char in chars] for group in groups
    ]
    classes += [list(masks) for masks in _fractal_masks(fractals)]
    count = torch.tensor([len(masks) for masks in classes])
    stacked = torch.from_numpy(np.stack([mask for masks in classes for mask in masks]))
    return Bank(stacked, count.cumsum(0) - count, count, tuple("".join(group) for group in groups))


def is_numeric(char: str) -> bool:
    """Whether Unicode gives the character any numeric value: digits, fractions, numerals of all scripts."""
    return unicodedata.numeric(char, None) is not None or unicodedata.category(char).startswith("N")


def _fonts() -> dict[Path, frozenset[str]]:
    """The free fonts that Matplotlib ships, and the wanted characters that each can draw."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    wanted = {chr(code) for begin, end in BLOCKS.values() for code in range(begin, end)}
    # Accented letters are left out: they differ from the plain ones by a few pixels.
    wanted = {c for c in wanted if unicodedata.category(c) in _CATEGORIES and not unicodedata.decomposition(c)}
    wanted = {c for c in wanted if not is_numeric(c)}
    paths = sorted(path for pattern in _FONTS for path in folder.glob(pattern))
    return {path: frozenset(wanted.intersection(map(chr, FT2Font(str(path)).get_charmap()))) for path in paths}


def _render(font: Path, char: str) -> NDArray[np.uint8]:
    """Draw one character as large as fits into a 64 x 64 mask with a margin of 8."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(font), 72)
    left, top, right, bottom = face.getbbox(char)
    glyph = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(glyph).text((-left, -top), char, fill=255, font=face)
    inner = MASK_SIZE - 16
    scale = inner / max(glyph.size)
    glyph = glyph.resize((max(2, round(glyph.width * scale)), max(2, round(glyph.height * scale))))
    mask = Image.new("L", (MASK_SIZE, MASK_SIZE))
    mask.paste(glyph, ((MASK_SIZE - glyph.width) // 2, (MASK_SIZE - glyph.height) // 2))
    return np.asarray(mask)


def _merge_homoglyphs(fonts: dict[Path, frozenset[str]]) -> list[list[str]]:
    """Group the characters that look alike, size apart: c and C, Latin, Greek and Cyrillic A."""
    reference = next(path for path in fonts if path.name == _REFERENCE_FONT)
    groups: list[list[str]] = []
    leaders: list[NDArray[np.float32]] = []
    for char in sorted(fonts[reference]):
        mask = _render(reference, char).astype(np.float32).ravel()
        mask /= np.linalg.norm(mask) + 1e-6
        likeness = np.array(leaders) @ mask if leaders else np.zeros(1)
        if likeness.max() > 0.95:
            groups[int(likeness.argmax())].append(char)
        else:
            groups.append([char])
            leaders.append(mask)
    return groups


def _fractal_masks(classes: int, points: int = 4000) -> NDArray[np.uint8]:
    """Draw iterated function systems, each with variants, as uint8 (classes, variants, 64, 64).

    After Kataoka et al., "Pre-training without natural images" (ACCV 2020): a class is a random set of two to
    six affine maps, chosen in proportion to their determinants; its variants scale the coefficients by up to
    10 %.
    """
    rng = np.random.default_rng(0)
    kept: list[NDArray[np.uint8]] = []
    while len(kept) < classes:
        maps = rng.uniform(-1, 1, (rng.integers(2, 7), 2, 3))
        # Singular values below 0.85 keep the point cloud bounded; above 0.25, they keep it from collapsing.
        u, s, v = np.linalg.svd(maps[:, :, :2])
        maps[:, :, :2] = u @ (np.clip(s, 0.25, 0.85)[:, :, None] * v)
        masks = _chaos_game(maps * rng.uniform(0.9, 1.1, (_VARIANTS, *maps.shape)), points, rng)
        if (masks > 0).mean() > 0.15:
            kept.append(masks)
    return np.stack(kept) if kept else np.zeros((0, _VARIANTS, MASK_SIZE, MASK_SIZE), np.uint8)


def _chaos_game(systems: NDArray[np.float64], points: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Follow a cloud of points through each of (V, N, 2, 3) systems and plot its density, (V, 64, 64)."""
    variants, walkers, burn_in = len(systems), 200, 15
    weight = np.abs(np.linalg.det(systems[0, :, :, :2])) + 0.02
    position = np.zeros((variants, walkers, 2))
    trail = []
    for step in range(burn_in + points // walkers):
        chosen = systems[:, rng.choice(len(weight), walkers, p=weight / weight.sum())]
        position = np.einsum("vwij,vwj->vwi", chosen[..., :2], position) + chosen[..., 2]
        if step >= burn_in:
            trail.append(position)
    cloud = np.concatenate(trail, 1)
    low, high = cloud.min(1, keepdims=True), cloud.max(1, keepdims=True)
    pixels = ((cloud - low) / (high - low + 1e-6) * (MASK_SIZE - 17) + 8).astype(int)
    density = np.zeros((variants, MASK_SIZE, MASK_SIZE))
    np.add.at(density, (np.arange(variants)[:, None], pixels[..., 1], pixels[..., 0]), 1)
    tone = np.log1p(density)
    masks: NDArray[np.uint8] = (255 * np.minimum(1, 1.5 * tone / tone.max((1, 2), keepdims=True))).astype(np.uint8)
    return masks
