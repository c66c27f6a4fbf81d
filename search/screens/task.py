"""What a screen may look at: a network and labelled images of the target's training split."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import InputError
from ...spaces.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ScreenTask:
    """A network and the images that it is to learn. A screen leaves all of it as it is.

    Attributes:
        backbone: The pretrained network, with a head for the target's classes.
        trace: The backbone at the images' size.
        images: Images of the training split, never of the test split; normalised, float32 (N, 3, S, S) in channels-last
            order.
        labels: Their classes, int64 (N,). Every class of the head has an image.
        seed: Seed of all that is drawn.

    Raises:
        InputError: A class has no image, a label is no class of the head, or images and labels differ in number.
    """

    backbone: "nn.Module"
    trace: Trace
    images: "Tensor"
    labels: "Tensor"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise InputError(f"a screen needs a label for each image: {len(self.images)} and {len(self.labels)} given")
        there, wanted = set(self.labels.tolist()), set(range(self.trace.num_classes))
        if missing := wanted - there:
            raise InputError(f"class {min(missing)} has no image: a screen needs one of each class")
        if other := there - wanted:
            raise InputError(f"label {max(other)} is no class of a head of {len(wanted)} classes")

    @property
    def head(self) -> str:
        """Qualified name of the classifier."""
        return self.trace.layers[self.trace.head].name
