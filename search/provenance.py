"""What went into a run, by checksum: the weights' file, the data, the device's profile."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spaces.backbones.choice import default_weights
from ..spaces.backbones.libraries import is_library
from ..spaces.backbones.published import bundled_weights, imagenet_weights, sha256

if TYPE_CHECKING:
    from .problem import Problem


def inputs_of(problem: "Problem") -> dict[str, Any]:
    """Checksums of what a problem was loaded from, for the record.

    Args:
        problem: The problem.

    Returns:
        SHA-256 of the weights' file (None for random weights, and for those that another library keeps), of all weights
        as loaded, of the training and the test split, and of the profile; and where the data came from, in words.
    """
    file = _weights_file(problem)
    return {
        "seed": problem.request.seed,
        "weights_file_sha256": None if file is None else sha256(file),
        "backbone_sha256": problem.backbone_digest,
        "train_sha256": problem.dataset.train.digest,
        "test_sha256": problem.dataset.test.digest,
        "data": problem.dataset.source,
        "device_sha256": problem.device_digest,
    }


def _weights_file(problem: "Problem") -> Path | None:
    backbone = problem.request.backbone
    stated = problem.request.weights or default_weights(backbone)
    if stated is not None and Path(stated).is_file():
        return Path(stated)
    if is_library(backbone):
        return None
    if stated == "bundled":
        return bundled_weights(backbone)
    return imagenet_weights(backbone) if stated == "imagenet" else None
