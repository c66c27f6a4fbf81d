"""What the rest of the project has to know about a backbone beside its layers."""

from dataclasses import dataclass
from typing import NamedTuple


class Normalisation(NamedTuple):
    """Per channel (red, green, blue): subtract `mean` and divide by `std`, on pixels scaled to [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: To [-1, 1]: networks of TensorFlow origin, of the sparse-update study, and the bundled one.
SYMMETRIC = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: Mean and standard deviation of ImageNet: networks published by torchvision.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class BackboneInfo:
    """One line of the list of backbones.

    Attributes:
        name: Canonical name, as `load_backbone` takes it.
        summary: What it is, in one line.
        input_size: Side of the square images that it was published with, in pixels; None where only the network says.
        normalisation: How it wants its images, unless the weights that are loaded say otherwise.
        weights: Names of the weights that can be had without a file: `bundled`, `imagenet`.
    """

    name: str
    summary: str
    input_size: int | None
    normalisation: Normalisation = SYMMETRIC
    weights: tuple[str, ...] = ()
