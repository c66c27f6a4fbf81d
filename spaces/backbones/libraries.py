"""Backbones of libraries of networks, by a prefix of their names: `timm:NAME`, `torchvision:NAME`."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ...core.errors import InputError
from .info import BackboneInfo
from .library import Library
from .timm_networks import Timm
from .torchvision_networks import Torchvision

LIBRARIES: dict[str, Library] = {library.package: library for library in (Timm(), Torchvision())}


@dataclass(frozen=True)
class LibraryNetwork:
    """A network of a library, by its name.

    Attributes:
        library: Where it is from.
        name: What the library calls it.
        info: What is known of it.
        sizes: `any`: it takes images of any size; `built`: of the one that it is built for; `own`: of its own alone.
    """

    library: Library
    name: str
    info: BackboneInfo
    sizes: Literal["any", "built", "own"]

    def load(self, classes: int, size: int | None, *, published: bool) -> nn.Module:
        """The network, with the weights that its library publishes or with random ones.

        Args:
            classes: Outputs of the head.
            size: Side of the images in pixels; None for its own.
            published: Whether to load weights.

        Raises:
            InputError: It cannot be built so, or no weights are published.
            MissingDataError: The weights could not be fetched.
        """
        own = self.info.input_size
        if self.sizes == "own" and size not in (None, own):
            option = f"input_size={own}"
            raise InputError(f"backbone {self.info.name} takes images of {own} pixels alone: {option}", option)
        built = size if self.sizes == "built" else None
        return (self.library.published if published else self.library.build)(self.name, classes, built)

    def converted(self, model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's entries as the network has them, by the library's own means."""
        return self.library.converted(model, state)


def is_library(name: str) -> bool:
    """Whether a backbone's name has the prefix of a library, so that it is data: no code of a user's is run for it.

    Example:
        >>> is_library("timm:mobilenetv3_small_050"), is_library("my_nets:build")
        (True, False)
    """
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(name: str) -> LibraryNetwork:
    """The network that a backbone's name stands for.

    Args:
        name: With the prefix: see `is_library`.

    Raises:
        InputError: There is none, or its library is not installed.
    """
    prefix, _, bare = name.partition(":")
    library = LIBRARIES[prefix]
    facts = library.facts(bare)
    weights = ("imagenet",) if facts.published else ()
    info = BackboneInfo(name, f"{bare} of {prefix}", facts.input_size, facts.normalisation, weights)
    return LibraryNetwork(library, bare, info, facts.sizes)


def built_size(name: str, most: int) -> int | None:
    """The side of the images that a network must be told before it is built, where nothing was said of it.

    Args:
        name: Any backbone's name.
        most: The largest to choose for a network that can be built for any.

    Returns:
        The size in pixels; None for networks that take images of any size.
    """
    if not is_library(name):
        return None
    network = library_network(name)
    own = network.info.input_size
    if network.sizes == "any" or own is None:
        return None
    return own if network.sizes == "own" else min(own, most)
