"""What a trace holds: layers with their shapes, multiply-accumulates, parameters and data flow; known without torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["conv", "linear", "norm", "act", "other", "parameter"]

#: Row number that stands for the network's input in `Layer.inputs`.
INPUT = -1


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept when a gradient flows to one of an operation's inputs.

    Attributes:
        inputs: Which inputs are kept, in order.
        output: Whether the output is kept.
        extra: Bytes kept besides, for one sample.
        fixed: Bytes kept besides, whatever the batch.
    """

    inputs: tuple[bool, ...]
    output: bool = False
    extra: int = 0
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Joint:
    """What is kept when gradients flow to several of an operation's inputs, where that is not what each of them needs.

    Attributes:
        inputs: Places of the inputs, one for all that read the same row.
        extra: Bytes kept besides, for one sample: more than for any of them alone.
        fixed: Bytes kept besides, whatever the batch.
        instead: All that is kept where these alone need a gradient and it is less of something, as where the operation
            has another kernel then; None where it is more.
    """

    inputs: tuple[int, ...]
    extra: int
    fixed: int
    instead: Retention | None = None


@dataclass(frozen=True, slots=True)
class Retentions:
    """All that was observed of what an operation keeps.

    Attributes:
        each: For each input, what is kept when it needs a gradient.
        joint: What is kept for several together, where it is more.
        alone: The same for a batch of one sample, where that differs, as it does where a product of several matrices
            becomes one of a single pair.
    """

    each: tuple[Retention, ...] = ()
    joint: tuple[Joint, ...] = ()
    alone: "Retentions | None" = None

    def of(self, batch: int) -> "Retentions":
        """What holds of a batch."""
        return self.alone if batch == 1 and self.alone is not None else self


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a trace. Shapes leave the batch out; counts are for one sample.

    A parameter that a network uses as it stands, such as a layer scale or a position embedding, is a row by itself,
    which the operations that use it read. Its output is the parameter: nothing is made or kept for it.

    Attributes:
        name: Qualified name of a module or parameter, or the graph's name of an operation that is no module.
        kind: conv, linear, norm, act, parameter, or other (pooling, additions, products of activations, ...).
        op: The operation: conv2d, linear, batch, group, layer, relu6, add, ...
        block: Index into `Trace.blocks`, -1 outside blocks.
        inputs: Rows whose outputs are read; `INPUT` is the network's input.
        in_shape: Shape of the first input.
        out_shape: Shape of the output.
        weight_shape: Shape of the weight (of the scale, for a norm); empty without.
        bias: Whether there is a bias (a shift, for a norm).
        kernel: Kernel height and width of a conv.
        stride: Stride of a conv.
        padding: Zeros above the first line that a conv reads, and left of the first column.
        dilation: Distance of the lines and columns that a conv's kernel reads.
        groups: Groups of a conv or of a group norm.
        kept: For act and other: what is kept for the backward pass.
        plain_kept: For act and other: what PyTorch's own operation keeps; `kept` is that of the replacement that an
            applied policy has, if there is one.
        in_place: Whether the backbone's own operation overwrites its first input.
        padded: Elements of the zero-padded copy of its input that the backbone makes for a conv, 0 where it makes none.
        viewed: Whether the first input is read through a view, such as a flattening, of the row that made it.
        standardised: Whether a conv standardises its weight.
        products: Multiply-accumulates of an operation that is no layer, such as a product of activations.
        itemsize: Bytes of an element of an output that is no float, such as that of a comparison, through which no
            gradient passes; 0 where elements are the device's activations.
        fold: Entries of the first axis for one sample: more than one where a network folds positions into the batch.
        copied: Of a norm that reads a view, such as a part of a map: the fewest samples of which it makes a copy to
            keep, 0 where it makes none.
        batched: Whether the output grows with the batch; else it is made of parameters alone.
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
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    kept: Retentions = Retentions()
    plain_kept: Retentions = Retentions()
    in_place: bool = False
    padded: int = 0
    viewed: bool = False
    standardised: bool = False
    products: int = 0
    fold: int = 1
    batched: bool = True
    copied: int = 0
    itemsize: int = 0

    def copies(self, batch: int) -> bool:
        """Whether a norm keeps a copy of a batch that it reads."""
        return 0 < self.copied <= batch

    @property
    def in_elements(self) -> int:
        """Elements of the first input."""
        return prod(self.in_shape)

    @property
    def out_elements(self) -> int:
        """Elements of the output."""
        return prod(self.out_shape)

    def elements(self, batch: int) -> int:
        """Elements that the row makes for a batch: none for a parameter, and as many for any if it is not batched."""
        if self.kind == "parameter":
            return 0
        return self.out_elements * self.samples(batch)

    def samples(self, batch: int) -> int:
        """Of how many samples what the row makes of a batch is: of one where it is made of parameters alone."""
        return batch if self.batched else 1

    def bytes(self, batch: int, element_bytes: int) -> int:
        """Bytes of what the row makes for a batch, with so many an activation."""
        return self.elements(batch) * (self.itemsize or element_bytes)

    @property
    def mask_bytes(self) -> int:
        """Bytes of one packed bit for each element of the output."""
        return self.fold * -(-self.out_elements // self.fold // 8)

    @property
    def in_channels(self) -> int:
        """Input channels (features) of a conv, linear or norm."""
        return self.in_shape[self._channel_axis(self.in_shape)] if self.in_shape else 1

    @property
    def out_channels(self) -> int:
        """Output channels (features) of a conv, linear or norm."""
        return self.out_shape[self._channel_axis(self.out_shape)] if self.out_shape else 1

    def _channel_axis(self, shape: tuple[int, ...]) -> int:
        if self.kind == "linear":
            return -1
        return 1 if self.fold > 1 and len(shape) > 1 else 0

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is convolved alone into one output channel."""
        return self.kind == "conv" and 1 < self.groups == self.in_channels == self.out_channels

    @property
    def pointwise(self) -> bool:
        """Whether this is a dense 1 x 1 convolution that maps each pixel by itself: a product of matrices."""
        alone = self.kernel == (1, 1) and self.groups == 1 and self.in_shape[1:] == self.out_shape[1:]
        return self.kind == "conv" and alone and len(self.out_shape) == 3 and not self.viewed

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
    def running_statistics(self) -> int:
        """Values of a batch norm's running means and variances; 0 for anything else."""
        return 2 * self.weights if self.op == "batch" else 0

    @property
    def macs_forward(self) -> int:
        """Multiply-accumulates of the forward pass; of other kinds than conv and linear as PyTorch counts them."""
        if self.kind not in ("conv", "linear"):
            return self.products
        return self.out_elements // self.out_channels * self.weights

    @property
    def macs_dx(self) -> int:
        """Multiply-accumulates of the gradients of the inputs: those of the forward pass, for each factor."""
        return self.macs_forward if self.kind in ("conv", "linear") else 2 * self.products

    @property
    def macs_dw(self) -> int:
        """Multiply-accumulates of the gradient of the whole weight: those of the forward pass again."""
        return self.macs_forward if self.kind in ("conv", "linear") else 0


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

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> stem = trace.layers[0]
        >>> stem.name, stem.out_shape, stem.macs_forward
        ('features.0.0', (16, 16, 16), 110592)
        >>> trace.layers[trace.head].name
        'classifier.1'
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
