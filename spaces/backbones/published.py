"""Weights that have a name instead of a file, and files that are known by their checksum."""

import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from ...core.errors import InputError, MissingDataError
from ...core.files import cache_folder, open_bounded
from .checkpoint import MAX_BYTES
from .info import IMAGENET, SYMMETRIC, Normalisation

#: Where torchvision publishes its checkpoints; the variable TINYSEARCH_WEIGHTS_URL names a mirror.
TORCHVISION_URL = "https://download.pytorch.org/models"

#: torchvision's checkpoints trained on ImageNet; the name ends in the first digits of the file's SHA-256.
#: The first recipe of each: the later ones smooth labels, which makes features transfer worse
#: (Kornblith et al., NeurIPS 2021, arXiv 2010.16402).
TORCHVISION = {
    "mobilenetv2-w1.0": "mobilenet_v2-b0353104.pth",
    "mobilenetv3-small": "mobilenet_v3_small-047dcff4.pth",
    "mobilenetv3-large": "mobilenet_v3_large-8738ca79.pth",
}

#: The weights that ship with the package: backbone, file beside this module, side of its images in pixels.
BUNDLED_BACKBONE = "mobilenetv2-w0.35"
BUNDLED_FILE = "mobilenetv2-w0.35-bundled.safetensors"
BUNDLED_INPUT_SIZE = 48

#: How messages name the option of weights from a file.
_FILE = "weights=FILE"


class Known(NamedTuple):
    """What is known of a file: the backbone that it was trained as, how that one takes its images, and their side."""

    backbone: str
    normalisation: Normalisation
    input_size: int | None = None


#: First digits of the SHA-256 of published files, found wherever they lie and whatever they are called.
KNOWN = {
    # Keras Applications' mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top
    "646a956b11eb100e": Known("mobilenetv2-w0.35-tf", SYMMETRIC),
    # TensorFlow's mobilenet_v2_1.0_224_quant, dequantised
    "5b555a52bcfc1b47": Known("mobilenetv2-w1.0-tf", SYMMETRIC),
    **{file[-12:-4]: Known(backbone, IMAGENET) for backbone, file in TORCHVISION.items()},
}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open_bounded(path, MAX_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identify(path: Path) -> Known | None:
    """What is known of a weights file, by its checksum or by what it says of itself.

    Raises:
        InputError: It says something that it cannot mean.
    """
    digest = sha256(path)
    for prefix, known in KNOWN.items():
        if digest.startswith(prefix):
            return known
    from .weights_file import read_header

    header = read_header(path)
    return None if header is None else Known(header.backbone, header.normalisation, header.input_size)


def bundled_weights(backbone: str) -> Path:
    """The file of the weights that ship with the package.

    Raises:
        InputError: They are for another backbone.
        MissingDataError: The installation lacks the file.
    """
    if backbone != BUNDLED_BACKBONE:
        raise InputError(f"the bundled weights are for {BUNDLED_BACKBONE}, not {backbone}; pass {_FILE}", _FILE)
    # The package is never run from a zip archive (torch cannot be), so the resource is a file.
    path = Path(str(resources.files(__package__) / BUNDLED_FILE))
    if not path.is_file():
        raise MissingDataError(f"the bundled weights {path} are missing: reinstall tinysearch or pass {_FILE}", _FILE)
    return path


def imagenet_weights(backbone: str) -> Path:
    """The file of torchvision's ImageNet weights, downloaded at first use.

    Raises:
        InputError: None are published for this backbone.
        MissingDataError: They could not be downloaded.
    """
    if backbone not in TORCHVISION:
        raise InputError(
            f"no ImageNet weights are published for {backbone} (there are for {', '.join(TORCHVISION)}); pass {_FILE}",
            _FILE,
        )
    return download(TORCHVISION[backbone])


def download(file: str) -> Path:
    """Fetch a checkpoint whose name ends in `-<first digits of its SHA-256>.pth`, or find it in the cache.

    The cache is the folder named by TINYSEARCH_CACHE, or else the user's cache folder. A cached file that
    does not match its checksum is fetched again.

    Raises:
        MissingDataError: There is no network, no such file, or what came does not match its checksum.
    """
    import pooch
    import requests

    expected = Path(file).stem.rpartition("-")[2]
    url = f"{os.environ.get('TINYSEARCH_WEIGHTS_URL', TORCHVISION_URL).rstrip('/')}/{file}"
    folder = cache_folder() / "weights"
    path = folder / file
    way_out = f"download it where there is a network and pass {_FILE}"
    try:
        if path.is_file() and not sha256(path).startswith(expected):
            path.unlink()
        # pooch checks whole checksums only, and says so in its log; the digits we have are checked below.
        pooch.get_logger().setLevel("WARNING")
        downloader = pooch.HTTPDownloader(timeout=30)
        pooch.retrieve(url, known_hash=None, fname=file, path=folder, downloader=downloader)
    except (requests.RequestException, OSError) as error:
        response = getattr(error, "response", None)
        reason = type(error).__name__ if response is None else f"status {response.status_code}"
        raise MissingDataError(f"cannot download {url} ({reason}): {way_out}", _FILE) from error
    digest = sha256(path)
    if not digest.startswith(expected):
        path.unlink()
        raise MissingDataError(
            f"{url} is damaged: its SHA-256 starts with {digest[:8]}, not {expected}; {way_out}", _FILE
        )
    return path
