"""The backbone as a flat table of layers: shapes, multiply-accumulates, parameters and data flow.

The table is made from any `torch.nn.Module` by symbolic tracing (torch.fx) and one forward pass; nothing about a
network is written by hand. Costs, spaces and policies read the table and never the network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from .errors import UnsupportedError
from .graph import block_names, symbolic_trace
from .retention import Retention

Kind = Literal["conv", "linear", "norm", "act", "other"]

#: Row number that stands for the network's input in `Layer.inputs`.
INPUT = -1


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a trace. Shapes leave the batch out; counts are for one sample.

    Attributes:
        name: Qualified module name, or the graph's name of an operation that is no module.
        kind: conv, linear, norm, act, or other (pooling, additions, ...).
        op: The operation: conv2d, linear, batch, group, layer, relu6, add, ...
        block: Index into `Trace.blocks`, -1 outside blocks.
        inputs: Rows whose outputs are read; `INPUT` is the network's input.
        in_shape: Shape of the first input.
        out_shape: Shape of the output.
        weight_shape: Shape of the weight (of the scale, for a norm); empty without.
        bias: Whether there is a bias (a shift, for a norm).
        kernel: Kernel height and width of a conv.
        stride: Stride of a conv.
        groups: Groups of a conv or of a group norm.
        retention: For act and other: what is kept, per input that needs a gradient.
        plain_retention: For act and other: what PyTorch's own operation keeps; `retention` is that of the replacement
            that an applied policy has, if there is one.
        in_place: Whether the backbone's own operation overwrites its first input.
        padded: Elements of the zero-padded copy of its input that the backbone makes for a conv, 0 where it makes none.
        viewed: Whether the first input is read through a view, such as a flattening, of the row that made it.
        standardised: Whether a conv standardises its weight.
    """

    name: str
    kind: Kind
    op: str
    block: int
    inputs: tuple[int, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weight_shape: tuple[int, ...] = ()
    bias: bool = False
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    retention: tuple[Retention, ...] = ()
    plain_retention: tuple[Retention, ...] = ()
    in_place: bool = False
    padded: int = 0
    viewed: bool = False
    standardised: bool = False

    @property
    def in_elements(self) -> int:
        """Elements of the first input."""
        return prod(self.in_shape)

    @property
    def out_elements(self) -> int:
        """Elements of the output."""
        return prod(self.out_shape)

    @property
    def in_channels(self) -> int:
        """Input channels (features) of a conv, linear or norm."""
        return self.in_shape[-1] if self.kind == "linear" else self.in_shape[0]

    @property
    def out_channels(self) -> int:
        """Output channels (features) of a conv, linear or norm."""
        return self.out_shape[-1] if self.kind == "linear" else self.out_shape[0]

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is convolved alone into one output channel."""
        return self.kind == "conv" and 1 < self.groups == self.in_channels == self.out_channels

    @property
    def sliceable(self) -> bool:
        """Whether a policy may train a set of this layer's channels; a standardised weight only trains whole."""
        return self.kind == "linear" or (self.kind == "conv" and not self.standardised)

    @property
    def weights(self) -> int:
        """Elements of the weight."""
        return prod(self.weight_shape) if self.weight_shape else 0

    @property
    def biases(self) -> int:
        """Elements of the bias."""
        return self.weight_shape[0] if self.bias else 0

    @property
    def params(self) -> int:
        """Elements of weight and bias together."""
        return self.weights + self.biases

    @property
    def macs_forward(self) -> int:
        """Multiply-accumulates of the forward pass of a conv or linear; 0 for other kinds."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.out_elements // self.out_channels * self.weights

    @property
    def macs_dx(self) -> int:
        """Multiply-accumulates of the gradient of the input: those of the forward pass, transposed."""
        return self.macs_forward

    @property
    def macs_dw(self) -> int:
        """Multiply-accumulates of the gradient of the whole weight: those of the forward pass again."""
        return self.macs_forward


@dataclass(frozen=True, slots=True)
class Block:
    """A repeated unit of the backbone, such as an inverted residual.

    Attributes:
        name: Qualified module name.
        input: Row whose output enters, or `INPUT`.
        output: Row whose output leaves.
        in_shape: Shape that enters.
        out_shape: Shape that leaves.
        lite: Row numbers of the lite residual module that can stand beside the block; empty where none can.
    """

    name: str
    input: int
    output: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    lite: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A backbone at one input shape.

    Attributes:
        name: Name of the backbone.
        input_shape: Shape of one input, (C, H, W).
        layers: The backbone's rows in execution order.
        lite_layers: Rows of the optional lite residual modules, whose numbers count on from the last of `layers`.
        blocks: The repeated units, in execution order.
        head: Row of the classifier.
        channel_norms: By name of each sliceable layer, the L1 norms of its weight per input and per output channel.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...] = field(repr=False)
    lite_layers: tuple[Layer, ...] = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    head: int
    channel_norms: dict[str, dict[str, npt.NDArray[np.float64]]] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @cached_property
    def rows(self) -> tuple[Layer, ...]:
        """The backbone's rows and then those of every lite residual module."""
        return self.layers + self.lite_layers

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All row numbers in data-flow order: a block's lite residual module comes before the block's last row."""
        before = {block.output: block.lite for block in self.blocks}
        return tuple(row for base in range(len(self.layers)) for row in (*before.get(base, ()), base))

    @cached_property
    def index(self) -> dict[str, int]:
        """Row number by name."""
        return {layer.name: row for row, layer in enumerate(self.rows)}

    def closing_row(self, block: Block) -> int | None:
        """The row whose bias or shift is added to all that leaves a block's branch; None where no such row is last.

        The shift of a lite residual module's last norm says the same a second time.
        """
        row = block.output
        sources = self.rows[row].inputs
        if self.rows[row].op == "add" and block.input in sources:
            row = next((source for source in sources if source != block.input), row)
        return row if self.rows[row].bias else None

    @property
    def num_classes(self) -> int:
        """Outputs of the head."""
        return self.layers[self.head].out_channels

    @property
    def macs_forward(self) -> int:
        """Multiply-accumulates of one forward pass of one sample, without lite residual modules."""
        return sum(layer.macs_forward for layer in self.layers)

    @property
    def params(self) -> int:
        """Parameters of the backbone with its head, without lite residual modules."""
        return sum(layer.params for layer in self.layers)


def trace(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Trace a network at one input shape.

    Args:
        model: Any module that torch.fx can trace, with one image as input and logits (N, classes) as output.
        input_shape: Shape of one input without the batch, (C, H, W).

    Returns:
        The network's table, with the rows of a lite residual module for every block that can take one.

    Raises:
        UnsupportedError: The network cannot be traced or run at this shape, calls a layer twice, contains a layer
            with parameters that no policy knows, or ends in no `nn.Linear`.
    """
    # Here, since that module reads this one's types.
    from .tracing import trace_layers, trace_lite_residuals

    shape = tuple(int(size) for size in input_shape)
    graph = symbolic_trace(model)
    layers, blocks = trace_layers(graph, block_names(model), shape)
    blocks, lite_layers = trace_lite_residuals(layers, blocks, shape)
    return Trace(
        name=getattr(model, "backbone_name", type(model).__name__),
        input_shape=shape,
        layers=tuple(layers),
        lite_layers=tuple(lite_layers),
        blocks=tuple(blocks),
        head=_head(layers),
        channel_norms={layer.name: _channel_norms(graph, layer) for layer in layers if layer.sliceable},
    )


def _head(layers: Sequence[Layer]) -> int:
    rows = [row for row, layer in enumerate(layers) if layer.kind in ("conv", "linear")]
    if not rows or layers[rows[-1]].kind != "linear":
        raise UnsupportedError("the network's last weighted layer is no nn.Linear: a policy trains a linear classifier")
    return rows[-1]


def _channel_norms(graph: fx.GraphModule, layer: Layer) -> dict[str, npt.NDArray[np.float64]]:
    weight = graph.get_parameter(f"{layer.name}.weight").detach().abs().to("cpu", torch.float64)
    # Input channels are counted over all groups, as in `channels`.
    by_in = torch.unflatten(weight, 0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return {"in": by_in.flatten(1).sum(1).numpy(), "out": weight.flatten(1).sum(1).numpy()}
