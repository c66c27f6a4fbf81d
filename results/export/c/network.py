"""What a generator needs of a network under a policy, row by row; what the kernels cannot do is refused here."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from ....core.errors import UnsupportedError
from ....spaces.engine import channels, layers
from ....spaces.engine.apply import apply
from ....spaces.policy import UpdatePolicy
from ....spaces.standardised import standardise
from ....spaces.table import UpdateTable
from ....spaces.trace import INPUT, Layer, Trace

Floats = npt.NDArray[np.float32]

#: Activations that there are kernels for.
ACTIVATIONS = frozenset({"relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"})
#: Other operations.
OPERATIONS = frozenset({"add", "mul", "mean", "adaptiveavgpool2d", "avgpool2d", "interpolate"})
#: Largest number of a channel that an index in the generated code can hold, plus one.
MOST_CHANNELS = 1 << 16


@dataclass(frozen=True)
class Weight:
    """The weight and bias of a convolution or linear layer.

    Attributes:
        values: As exported, (out, in / groups, kh, kw); of a linear layer (out, in, 1, 1).
        bias: (out,), or None.
        trains: none, all, or slice: some channels.
        axis: Of a slice, out or in.
        index: Its channels.
        bias_trains: Whether the bias does.
    """

    values: Floats
    bias: Floats | None
    trains: str
    axis: str
    index: tuple[int, ...]
    bias_trains: bool

    @property
    def frozen(self) -> bool:
        """Whether nothing of it trains."""
        return self.trains == "none" and not self.bias_trains


@dataclass(frozen=True)
class Norm:
    """A batch norm on its running statistics, or a group norm.

    Attributes:
        scale: (C,).
        shift: (C,).
        mean: Running means, (C,); of a group norm none.
        inverse: One over the running deviations, likewise.
        groups: Of a group norm.
        eps: Added to variances.
        momentum: By how much running statistics move towards those of a batch.
        statistics_train: Whether they do, and normalise in training.
        variance: Running variances, (C,).
        scale_trains: Whether the scale does.
        shift_trains: Whether the shift does.
    """

    scale: Floats
    shift: Floats
    mean: Floats
    inverse: Floats
    groups: int
    eps: float
    momentum: float
    variance: Floats
    statistics_train: bool
    scale_trains: bool
    shift_trains: bool

    @property
    def affine(self) -> bool:
        """Whether what a batch norm multiplies by never changes."""
        return not self.scale_trains and not self.statistics_train

    @cached_property
    def slope(self) -> Floats:
        """Of a batch norm: y = slope x + offset."""
        return (self.scale.astype(np.float64) * self._precise_inverse).astype(np.float32)

    @cached_property
    def offset(self) -> Floats:
        """See `slope`."""
        slope = self.scale.astype(np.float64) * self._precise_inverse
        return (self.shift - self.mean * slope).astype(np.float32)

    @property
    def _precise_inverse(self) -> npt.NDArray[np.float64]:
        return self.inverse.astype(np.float64)


class Network:
    """A network under a policy.

    Args:
        backbone: The network, which is left unchanged.
        policy: What trains.
        trace: The network's rows.

    Raises:
        UnsupportedError: No kernel computes something of it.
    """

    def __init__(self, backbone: nn.Module, policy: UpdatePolicy, trace: Trace) -> None:
        self.trace = trace
        self.table = UpdateTable.of(trace, [policy])
        self.model: fx.GraphModule = apply(backbone, policy).cpu()
        self.present = [bool(flag) for flag in self.table.present[0]]
        for row in trace.order:
            if self.present[row]:
                self._check(row)

    def layer(self, row: int) -> Layer:
        """A row of the trace."""
        return self.trace.rows[row]

    def shape(self, row: int) -> tuple[int, int]:
        """Channels and pixels of a row's output, or of the network's input."""
        shape = self.trace.input_shape if row == INPUT else self.layer(row).out_shape
        return shape[0], int(np.prod(shape[1:]))

    def readers(self, row: int) -> list[int]:
        """The rows that read a row's output."""
        rows = self.trace.rows
        return [other for other in self.trace.order if self.present[other] and row in rows[other].inputs]

    def weight(self, row: int) -> Weight:
        """Of a convolution or linear layer."""
        module: Any = self._module(row)
        values = module.weight.detach().float()
        if isinstance(module, layers.Conv2d) and module.standardised:
            values = standardise(values)
        if values.ndim == 2:
            values = values[:, :, None, None]
        index = () if module.update_index is None else tuple(module.update_index.tolist())
        trains = "slice" if module.weight_update is not None else "all" if module.weight.requires_grad else "none"
        return Weight(
            values.numpy(),
            None if module.bias is None else module.bias.detach().float().numpy(),
            trains,
            "out" if module.update_axis == channels.OUT else "in",
            index,
            module.bias is not None and module.bias.requires_grad,
        )

    def slice(self, row: int) -> Floats:
        """The values that train of a weight, as the engine lays them out."""
        module: Any = self._module(row)
        values = module.weight if module.weight_update is None else module.weight_update
        found: Floats = values.detach().float().numpy()
        return found

    def norm(self, row: int) -> Norm:
        """Of a norm."""
        module: Any = self._module(row)
        batch = self.layer(row).op == "batch"
        none = torch.zeros(0)
        shift = torch.zeros_like(module.weight) if module.bias is None else module.bias
        return Norm(
            module.weight.detach().float().numpy(),
            shift.detach().float().numpy(),
            (module.running_mean if batch else none).float().numpy(),
            (torch.rsqrt(module.running_var.double() + module.eps).float() if batch else none).numpy(),
            1 if batch else module.num_groups,
            module.eps,
            float(module.momentum or 0.0) if batch else 0.0,
            (module.running_var if batch else none).float().numpy(),
            bool(self.table.statistics[0, row]),
            module.weight.requires_grad,
            module.bias is not None and module.bias.requires_grad,
        )

    def geometry(self, row: int) -> tuple[int, ...]:
        """The fields of a `ts_conv_shape`."""
        layer, module = self.layer(row), self._module(row)
        if layer.kind == "linear":
            return (layer.in_channels, layer.out_channels, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1)
        assert isinstance(module, layers.Conv2d)
        return (
            layer.in_channels,
            layer.out_channels,
            layer.groups,
            *layer.kernel,
            layer.stride[0],
            *layer.padding,
            *layer.in_shape[1:],
            *layer.out_shape[1:],
        )

    def pool(self, row: int) -> int:
        """The window of an average pooling."""
        module = self._module(row)
        assert isinstance(module, layers.AvgPool2d)
        return module.kernel

    def _module(self, row: int) -> nn.Module:
        return self.model.get_submodule(self.layer(row).name)

    def _check(self, row: int) -> None:
        layer = self.layer(row)
        if lacking := self._lacks(row, layer):
            raise UnsupportedError(f"to=c: {layer.name} {lacking}", "to=c")

    def _lacks(self, row: int, layer: Layer) -> str:
        if layer.fold > 1 or not layer.batched or layer.itemsize or layer.kind == "parameter":
            return f"({layer.op}) is computed of more or less than one image at a time: no kernel does that"
        if layer.kind == "linear" and len(layer.in_shape) != 1:
            return "is a linear layer over several positions: no kernel does that; take a 1 x 1 convolution"
        if layer.kind == "norm":
            return self._norm_lacks(row, layer)
        if layer.kind == "act":
            known = layer.op in ACTIVATIONS and layer.in_shape == layer.out_shape
            return "" if known else f"is {layer.op}: there are kernels for {', '.join(sorted(ACTIVATIONS))}"
        if layer.kind == "conv":
            return self._conv_lacks(row)
        if layer.kind == "other":
            return self._operation_lacks(row, layer)
        return ""

    def _norm_lacks(self, row: int, layer: Layer) -> str:
        if layer.op not in ("batch", "group"):
            return f"is a {layer.op} norm: there are kernels for batch and group norms"
        if self.table.statistics[0, row] and np.prod(layer.in_shape[1:]) == 1:
            return "normalises by the statistics of a single pixel: let its statistics be frozen, or take larger images"
        if self.table.statistics[0, row] and self._module(row).momentum is None:
            return "averages statistics over all batches: give it a momentum"
        return "" if len(layer.in_shape) == 3 else "normalises no map (channels, rows, columns): no kernel does that"

    def _conv_lacks(self, row: int) -> str:
        module = self._module(row)
        if not isinstance(module, layers.Conv2d):
            return f"is a {type(module).__name__}, of which the generator does not know what it computes"
        if module.geometry[2] != (1, 1):
            return "is dilated: no kernel does that"
        if module.geometry[0][0] != module.geometry[0][1]:
            return "has another stride down than across: no kernel does that"
        if module.standardised and (module.weight.requires_grad or module.weight_update is not None):
            return "standardises a weight that trains: no kernel does that; freeze it"
        if max(module.in_channels, module.out_channels) > MOST_CHANNELS:
            return f"has more than {MOST_CHANNELS} channels"
        return ""

    def _operation_lacks(self, row: int, layer: Layer) -> str:
        shapes = [self._out_shape(source) for source in layer.inputs]
        if layer.op == "dropout" or isinstance(self._find(row), layers.Dropout):
            return "drops at random, so that no loss is repeatable: set its p to 0"
        if layer.op not in OPERATIONS:
            return f"is {layer.op}: there are kernels for {', '.join(sorted(ACTIVATIONS | OPERATIONS))}"
        if layer.op == "add":
            return "" if len(shapes) == 2 and shapes[0] == shapes[1] else "adds other than two maps of one shape"
        if layer.op == "mul":
            gates = [shape for shape in shapes if len(shape) == 3 and shape[1:] == (1, 1)]
            gated = len(shapes) == 2 and gates and shapes[0][:1] == shapes[1][:1]
            return "" if gated else "multiplies other than a map by a number for each channel: no kernel does that"
        if layer.op in ("mean", "adaptiveavgpool2d"):
            over_all = len(layer.in_shape) == 3 and layer.out_shape in (layer.in_shape[:1], (*layer.in_shape[:1], 1, 1))
            return "" if over_all else "averages over other than all pixels of a map: no kernel does that"
        if layer.op == "avgpool2d":
            pools = isinstance(self._find(row), layers.AvgPool2d)
            return "" if pools else "pools windows that overlap or are padded: no kernel does that"
        lite = row >= len(self.trace)
        return "" if lite else "resizes a map: there is a kernel for lite residual modules alone"

    def _find(self, row: int) -> nn.Module | None:
        try:
            return self._module(row)
        except AttributeError:
            return None

    def _out_shape(self, row: int) -> tuple[int, ...]:
        return self.trace.input_shape if row == INPUT else self.layer(row).out_shape
