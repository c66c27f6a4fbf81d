"""The backbone as a flat table of layers: shapes, multiply-accumulates, parameters and data flow.

The table is made from any `torch.nn.Module` by symbolic tracing (torch.fx) and one forward pass; nothing about a
network is written by hand. Costs, spaces and policies read the table and never the network.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...core.errors import InputError
from .records import INPUT, Block, Joint, Kind, Layer, Retention, Retentions, Trace

if TYPE_CHECKING:
    from torch import nn

__all__ = ["INPUT", "Block", "Joint", "Kind", "Layer", "Retention", "Retentions", "Trace", "trace"]


def trace(model: "nn.Module", input_shape: Sequence[int]) -> Trace:
    """Trace a network at one input shape.

    Args:
        model: Any module that torch.fx can trace, with one image as input and logits (N, classes) as output.
        input_shape: Shape of one input without the batch, (C, H, W).

    Returns:
        The network's table, with the rows of a lite residual module for every block that can take one.

    Raises:
        InputError: The shape is none.
        UnsupportedError: The network cannot be traced or run at this shape, calls a layer twice, contains a layer
            with parameters that no policy knows, or ends in no `nn.Linear`.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> len(trace), len(trace.blocks), trace.macs_forward
        (151, 17, 1196592)
    """
    # Here, so that a trace's records can be had without torch.
    from .recorder import record

    shape = tuple(int(size) for size in input_shape)
    if not shape or min(shape) < 1:
        raise InputError(
            f"the input shape {tuple(input_shape)} is none: give channels, height and width, each at least 1"
        )
    return record(model, shape)
