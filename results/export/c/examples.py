"""The images that an export brings: those given, or patterns of its own where none are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ....core.errors import InputError
from .constants import hex_float, wrapped

#: How many patterns are made where no images are given.
PATTERNS = 4
#: Most images that are written into a program, each of as many bytes as it has values.
MOST = 1000


@dataclass(frozen=True)
class Examples:
    """Images of bytes, and how a network takes them.

    Attributes:
        pixels: (N, C, H, W), uint8.
        labels: (N,).
        scales: What a byte is multiplied by, (C,).
        shifts: What is added then, (C,).
        what: What they are, in words.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]
    shifts: npt.NDArray[np.float32]
    what: str

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        classes: int,
        backbone: nn.Module,
        images: Any | None = None,
        labels: Sequence[int] | None = None,
    ) -> "Examples":
        """Check images, or make some.

        Args:
            shape: Of an image, (C, H, W).
            classes: Labels are below this.
            backbone: Has `normalisation`, or is fed with 0 to 1.
            images: (N, C, H, W) of bytes, or None.
            labels: (N,), with images.

        Raises:
            InputError: They are not of that kind.
        """
        found = getattr(backbone, "normalisation", None)
        mean, deviation = found if found is not None else ([0.0] * shape[0], [1.0] * shape[0])
        scales = (1 / (255 * np.asarray(deviation, np.float64))).astype(np.float32)
        shifts = (-np.asarray(mean, np.float64) / np.asarray(deviation, np.float64)).astype(np.float32)
        if images is None:
            pixels, marks = _patterns(shape, classes)
            return cls(pixels, marks, scales, shifts, "patterns and noise, made by the generator")
        pixels, marks = np.asarray(images), np.asarray(labels if labels is not None else [], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != tuple(shape) or not 0 < len(pixels) <= MOST:
            raise InputError(
                f"images are {pixels.dtype} {list(pixels.shape)}: give 1 to {MOST} of bytes, [N, "
                f"{', '.join(map(str, shape))}]",
                "images",
            )
        if marks.shape != (len(pixels),) or marks.min() < 0 or marks.max() >= classes:
            raise InputError(f"labels are not {len(pixels)} numbers below {classes}, one for each image", "labels")
        return cls(pixels, marks, scales, shifts, "as given")

    def tensor(self) -> Tensor:
        """The images as the network takes them, computed as the program does."""
        scaled = self.pixels.astype(np.float32) * self.scales[:, None, None]
        return torch.from_numpy(scaled + self.shifts[:, None, None])

    def values(self) -> dict[str, object]:
        """For the templates."""
        images = (f"    {{\n{wrapped(map(str, image.ravel().tolist()), '        ')}\n    }}," for image in self.pixels)
        return {
            "EXAMPLES": len(self),
            "WHAT": self.what,
            "LABELS": wrapped(map(str, self.labels.tolist())),
            "SCALES": ", ".join(map(hex_float, self.scales)),
            "SHIFTS": ", ".join(map(hex_float, self.shifts)),
            "PIXELS": "\n".join(images),
        }


def _patterns(shape: Sequence[int], classes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Stripes of another direction for each image, with noise."""
    generator = np.random.default_rng(0)
    _, height, width = shape
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    pixels = np.empty((PATTERNS, *shape), np.uint8)
    for n in range(PATTERNS):
        angle = np.pi * n / PATTERNS
        wave = np.sin(20 * (rows * np.sin(angle) + columns * np.cos(angle)))
        noise = generator.normal(0, 20, shape)
        pixels[n] = np.clip(128 + 80 * wave + noise, 0, 255).astype(np.uint8)
    return pixels, np.arange(PATTERNS, dtype=np.int64) % classes
