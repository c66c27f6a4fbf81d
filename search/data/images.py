"""A split of labelled images that decodes only what is asked for.

One rule brings every image to (3, size, size): the largest centred square, resized bilinearly with
antialiasing. That is the short side resized and the centre cropped, in one step. Grey images get three
equal channels, transparent pixels are laid over white, and the EXIF orientation is applied.
"""

import hashlib
import io
import re
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.errors import InputError
from ...core.files import open_bounded

# torch and PIL are imported where they are used: listing the data sets must not wait for them.
if TYPE_CHECKING:
    import torch
    from PIL import Image

#: An image that declares more pixels, or whose file has more bytes, is refused before it is decoded. Decoders hold up
#: Most scans of a JPEG; a progressive one has some ten.
MAX_SCANS = 100
#: What a JPEG begins with, and the next marker that a length follows: none within a scan's data.
_JPEG, _MARKER = b"\xff\xd8", re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")
_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
#: to three copies of four bytes a pixel.
MAX_PIXELS = 40_000_000
MAX_BYTES = 50_000_000
#: The start of a PPM; likewise with a whole header, whose numbers comments may lie between; and bytes that it may take.
_PPM = re.compile(rb"P[0-7fy][\s#]")
_PPM_COMPLETE = re.compile(rb"P[0-7fy](?:(?:\s|#[^\n\r]*[\n\r])+[^\s#]+){2}")
_PPM_HEADER = 4096
#: Rows that transparency is laid over white in at once.
_BAND = 256

#: The formats decoded. EPS and the like, which run other programs, are not among them.
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "GIF", "TIFF")

#: What PIL raises on damaged files besides OSError, seen by flipping bytes of every format.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)


class ImageSplit(ABC):
    """Labelled images, decoded on demand.

    Attributes:
        labels: Class ids, int64 (N,), read-only.
    """

    labels: NDArray[np.int64]

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, indices: ArrayLike, size: int) -> "torch.Tensor":
        """Decode and resize some images.

        Args:
            indices: Positions in the split, (n,).
            size: Side of the result in pixels.

        Returns:
            uint8 (n, 3, size, size), RGB, in the order of `indices`.

        Raises:
            InputError: `size` is not positive, or an image cannot be decoded; the line names the image.
            IndexError: A position is outside the split.
        """
        import torch

        if size < 1:
            raise InputError(f"image size must be at least 1 pixel, not {size}")
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"image positions must lie in 0..{len(self) - 1}")
        pixels = np.empty((len(positions), size, size, 3), dtype=np.uint8)
        for row, position in enumerate(positions):
            pixels[row] = np.asarray(_fit(self._image(int(position)), size))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    @property
    def digest(self) -> str:
        """SHA-256 of the labels and of what the images are made of: pixels, bytes, or names and sizes of files.

        Files on disk are not read for it, which would take too long for a hundred thousand.
        """
        digest = hashlib.sha256(self.labels.tobytes())
        for part in self._content():
            digest.update(part)
        return digest.hexdigest()

    def _content(self) -> Iterator[bytes]:
        """What tells the images of this split from others."""
        return iter(())

    @abstractmethod
    def _image(self, index: int) -> "Image.Image":
        """Image `index` in mode RGB, at its own size."""


class ArraySplit(ImageSplit):
    """Images of one size in one array: uint8 (N, H, W, 3), or (N, H, W) for grey."""

    def __init__(self, pixels: NDArray[np.uint8], labels: ArrayLike) -> None:
        super().__init__(labels)
        self._pixels = pixels

    def _content(self) -> Iterator[bytes]:
        yield repr(self._pixels.shape).encode()
        for image in self._pixels:  # one by one: the array may be part of another one
            yield image.tobytes()

    def _image(self, index: int) -> "Image.Image":
        from PIL import Image

        return Image.fromarray(self._pixels[index]).convert("RGB")


class Subset(ImageSplit):
    """Some images of another split.

    Args:
        split: The other.
        chosen: Their positions in it, (N,).
    """

    def __init__(self, split: ImageSplit, chosen: ArrayLike) -> None:
        self._split, self._chosen = split, np.asarray(chosen, dtype=np.int64)
        super().__init__(split.labels[self._chosen])

    @classmethod
    def balanced(cls, split: ImageSplit, per_class: int, seed: int = 0) -> "Subset":
        """So many images of each class, drawn by chance; of a class that has fewer, all."""
        rng = np.random.default_rng(seed)
        members = (np.flatnonzero(split.labels == label) for label in np.unique(split.labels))
        return cls(split, np.sort(np.concatenate([rng.permutation(own)[:per_class] for own in members])))

    def _content(self) -> Iterator[bytes]:
        yield self._chosen.tobytes()
        yield self._split.digest.encode()

    def _image(self, index: int) -> "Image.Image":
        return self._split._image(int(self._chosen[index]))


#: Mean and standard deviation per channel of RGB scaled to [0, 1].
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class ImageFile:
    """An encoded image: a path to read, or its bytes where it came out of an archive."""

    name: str
    content: Path | bytes


class FileSplit(ImageSplit):
    """Encoded image files, kept as paths or bytes."""

    def __init__(self, files: Sequence[ImageFile], labels: ArrayLike) -> None:
        super().__init__(labels)
        self._files = tuple(files)

    def _content(self) -> Iterator[bytes]:
        for file in self._files:
            content = file.content
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            yield f"{PurePath(file.name).name} {size}\n".encode()
            if isinstance(content, bytes):
                yield content

    def _image(self, index: int) -> "Image.Image":
        return decode(self._files[index])


@dataclass(frozen=True)
class Dataset:
    """A classification task with a train and a test split.

    The splits are separate objects: a search is handed `train` alone.

    Attributes:
        name: What it was asked for by.
        classes: Class names; label i is `classes[i]`.
        train: Images that a search may see.
        test: Images that it may not.
        source: Where the images came from and how they were split, in words.

    Example:
        >>> import tinysearch as ts
        >>> digits = ts.load_dataset("digits")
        >>> digits.train.load([0, 1], 16).shape, digits.train.labels[:2].tolist()
        (torch.Size([2, 3, 16, 16]), [2, 1])
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    test: ImageSplit
    source: str


def decode(file: ImageFile) -> "Image.Image":
    """Decode one file to RGB at its own size.

    Raises:
        InputError: The file is damaged, too large, of an unknown format, or deeper than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(file.content, bytes):
        opened: AbstractContextManager[BinaryIO] = nullcontext(io.BytesIO(file.content))
    else:
        opened = open_bounded(file.content, MAX_BYTES)
    try:
        with opened as stream:
            _check_start(stream)
            _check_scans(stream, file.name)
            image = Image.open(stream, formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                limit = f"more than {MAX_PIXELS:,}"
                raise InputError(f"image {file.name!r} declares {width}x{height} pixels, {limit}: shrink it")
            # PIL would clip these to white instead of scaling them.
            if image.mode.startswith(("I", "F")):
                raise InputError(f"image {file.name!r} has more than 8 bits a channel: save it with 8")
            return _upright(image)
    except UnidentifiedImageError as error:
        raise InputError(f"image {file.name!r} is damaged or none of {', '.join(FORMATS)}") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise InputError(f"image {file.name!r} cannot be decoded: {error}") from error


def _check_scans(stream: BinaryIO, name: str) -> None:
    """Refuse a JPEG that is drawn over and over: each scan of a few bytes takes as long as the whole image.

    Only the scans of the image itself count: a preview lies within a segment, a phone's film behind the end.
    """
    content = stream.read() if stream.read(2) == _JPEG else b""
    stream.seek(0)
    scans, place = 0, len(_JPEG)
    while (marker := _MARKER.search(content, place)) and marker[1][0] != _END_OF_IMAGE:
        scans += marker[1][0] == _SCAN
        if scans > MAX_SCANS:
            raise InputError(f"image {name!r} has more than {MAX_SCANS} scans: save it again")
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])


def _check_start(stream: BinaryIO) -> None:
    """Refuse a PPM whose header does not end soon: comments in it are read byte by byte."""
    start = stream.read(_PPM_HEADER)
    stream.seek(0)
    if _PPM.match(start) and not _PPM_COMPLETE.match(start):
        raise ValueError(f"its header has more than {_PPM_HEADER} bytes")


def _upright(image: "Image.Image") -> "Image.Image":
    """An image decoded to RGB, upright, on white; with as few copies of it as can be."""
    from PIL import Image, ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if not image.has_transparency_data:
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        box = (0, top, image.width, min(top + _BAND, image.height))
        layer = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        result.paste(Image.alpha_composite(white, layer).convert("RGB"), box)
    return result


def _fit(image: "Image.Image", size: int) -> "Image.Image":
    from PIL import Image, ImageOps

    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)


def normalisation_of(backbone: object) -> Normalisation:
    """How a backbone wants its images: what it says of itself, else from [0, 1] to [-1, 1]."""
    stated: Normalisation = getattr(backbone, "normalisation", ((0.5,) * 3, (0.5,) * 3))
    return stated


def as_input(images: "torch.Tensor", normalisation: Normalisation) -> "torch.Tensor":
    """As `to_float`, in channels-last order: the one that convolutions on a CPU compute in."""
    import torch

    return to_float(images, normalisation).contiguous(memory_format=torch.channels_last)


def to_float(images: "torch.Tensor", normalisation: Normalisation) -> "torch.Tensor":
    """Scale to [0, 1], subtract the mean and divide by the standard deviation of each channel.

    Args:
        images: uint8 (n, 3, H, W).
        normalisation: Three means and three standard deviations.

    Returns:
        float32 (n, 3, H, W).

    Raises:
        InputError: The images are of another type or shape, or a standard deviation is not positive.
    """
    import torch

    mean, std = (torch.tensor(values, dtype=torch.float32) for values in normalisation)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images must be uint8 (n, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    if mean.shape != (3,) or std.shape != (3,) or not bool((std > 0).all()):
        raise InputError(f"normalisation must be three means and three positive deviations, not {normalisation}")
    mean, std = (values.to(images.device).view(1, 3, 1, 1) for values in (mean, std))
    return images.float().div_(255).sub_(mean).div_(std)
