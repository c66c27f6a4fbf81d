"""A backbone by name: the network at the size that it works on, and its trace."""

from torch import nn

from ..core.errors import InputError
from ..devices.measure.first import measure_first
from ..spaces.backbones import load_backbone
from ..spaces.backbones.catalogue import is_built_in
from ..spaces.backbones.choice import find_weights
from ..spaces.backbones.libraries import built_size
from ..spaces.trace import Trace, trace

#: Largest side of images unless the user asks for more, in pixels: what small devices can train on.
MAX_DEFAULT_SIZE = 96


def load_network(
    backbone: str,
    *,
    classes: int,
    weights: str | None = None,
    input_size: int | None = None,
    for_costs: bool = False,
) -> tuple[nn.Module, Trace]:
    """Load what a backbone's name, weights and size stand for.

    Args:
        backbone: The backbone's name, `timm:NAME`, `torchvision:NAME`, or `package.module:function`.
        classes: Outputs of the head.
        weights: `bundled`, `imagenet`, `none` or a file; None takes what is published.
        input_size: Side of the images in pixels; None takes the weights' own, or `MAX_DEFAULT_SIZE` if that is less.
        for_costs: Whether nothing but costs will be asked of it: see `find_weights`.

    Returns:
        The network, and its trace for images of that size.

    Raises:
        InputError: A name or file is wrong, or there are no weights.
        MissingDataError: The weights are missing.
        UnsupportedError: The network cannot be traced, or it is none of ours and keeps other bytes than predicted.
    """
    chosen = find_weights(backbone, weights, for_costs=for_costs)
    wanted = input_size or built_size(backbone, MAX_DEFAULT_SIZE)
    network = load_backbone(backbone, num_classes=classes, input_size=wanted, weights=chosen)
    # The type of the attribute is Any: load_backbone puts it on every network.
    size = wanted or min(MAX_DEFAULT_SIZE, int(network.input_size))  # type: ignore[arg-type]
    found = trace(network, (3, size, size))
    if found.num_classes != classes:
        raise InputError(
            f"backbone {backbone} gives {found.num_classes} logits for {classes} classes: "
            "let its function take num_classes"
        )
    if not is_built_in(backbone):
        measure_first(network, found)
    return network, found
