"""Images of a split as examples to train on: decoded once, augmented each time anew."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .images import ImageSplit, Normalisation, as_input

#: Most bytes of decoded images that are kept; of a larger set every image is decoded each time.
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Augmentation:
    """How images are varied in training.

    Attributes:
        shift: Largest shift along each axis, as a share of the side; what comes in repeats the edge.
        flip: Whether half of the images are mirrored left to right. Signs and letters must not be.
    """

    shift: float = 0.0
    flip: bool = False

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Vary each of some square images, (n, C, S, S), on its own."""
        count, channels, side, _ = pixels.shape
        most = round(self.shift * side)
        moves = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
        mirrored = torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0.0)
        places = torch.arange(side)
        rows, columns = (places + moves).clamp_(0, side - 1)
        columns = torch.where(mirrored, side - 1 - columns, columns)
        rows, columns = rows.to(pixels.device), columns.to(pixels.device)
        images, planes = torch.arange(count, device=pixels.device), torch.arange(channels, device=pixels.device)
        return pixels[
            images[:, None, None, None], planes[:, None, None], rows[:, None, :, None], columns[:, None, None]
        ]


class Pictures:
    """Some images of a split, as a backbone wants them.

    Args:
        split: Where they are from.
        chosen: Their positions in it, (N,).
        size: Side in pixels.
        normalisation: How the backbone wants them.
        augmentation: How `varied` varies them.
        device: Where the model computes.

    Attributes:
        labels: Their classes, int64 (N,).
    """

    def __init__(
        self,
        split: ImageSplit,
        chosen: NDArray[np.int64],
        size: int,
        normalisation: Normalisation,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.labels = torch.from_numpy(split.labels[chosen]).to(device)
        self._split, self._chosen, self._size = split, chosen, size
        self._normalisation, self._augmentation, self._device = normalisation, augmentation, device
        keep = len(chosen) * 3 * size**2 <= KEPT_BYTES
        self._kept = torch.empty((len(chosen), 3, size, size), dtype=torch.uint8, device=device) if keep else None
        self._decoded = torch.zeros(len(chosen), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._chosen)

    def inputs(self, picked: Tensor) -> Tensor:
        """Some of them, normalised, float32 (n, 3, S, S) in channels-last order."""
        return as_input(self._pixels(picked), self._normalisation)

    def varied(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        """Likewise, augmented."""
        pixels = self._pixels(picked)
        varied = pixels if self._augmentation is None else self._augmentation(pixels, generator)
        return as_input(varied, self._normalisation)

    def _pixels(self, picked: Tensor) -> Tensor:
        if self._kept is None:
            return self._split.load(self._chosen[picked.numpy()], self._size).to(self._device)
        missing = torch.unique(picked[~self._decoded[picked]])
        if len(missing):
            self._kept[missing] = self._split.load(self._chosen[missing.numpy()], self._size).to(self._device)
            self._decoded[missing] = True
        return self._kept[picked]
