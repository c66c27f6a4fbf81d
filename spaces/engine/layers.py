"""The layers that an applied policy puts in place of PyTorch's own.

Each is a drop-in replacement with the same parameter names, built from the module it replaces. What trains is said
by `requires_grad`; what is kept follows from it in `convolution` and `functions`.

A convolution hands its call on to the frozen norm and the masked activation behind it, if `deferred` says that nothing
else reads its output, and the last of them computes all (`ConvCall`).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.errors import UnsupportedError
from ..operations import EXACT_MASK
from ..standardised import StandardisedConv2d
from . import channels, functions
from .convolution import ConvCall, Pair, Statistics, compose, convolve
from .masks import Activation, activate

#: Channel axis of a weight tensor by the policy's word for it.
AXIS = {"out": channels.OUT, "in": channels.IN}


class PartialWeight:
    """Mixin: a weight of which a set of channels may train.

    The trained channels are a parameter of their own, `weight_update`, so that gradients and optimizer state exist
    for them alone and the channels outside cannot change. Its layout is that of `channels.select`.
    """

    weight: Tensor
    weight_update: nn.Parameter | None
    update_index: Tensor | None
    update_axis: int
    groups: int

    def _no_update(self) -> None:
        self.weight_update = None
        self.update_index = None
        self.update_axis = channels.OUT

    def train_channels(self, axis: Literal["in", "out"], index: tuple[int, ...]) -> None:
        """Make the given channels trainable, starting from their present values."""
        assert isinstance(self, nn.Module)
        # The input channels of a depthwise conv are its output channels: one name for the same set.
        self.update_axis = channels.OUT if channels.depthwise(self.weight, self.groups) else AXIS[axis]
        self.weight_update = None
        del self.update_index
        self.register_buffer("update_index", torch.tensor(index, device=self.weight.device), persistent=False)
        assert self.update_index is not None
        values = channels.select(self.weight.detach(), self.update_index, self.update_axis, self.groups)
        self.weight_update = nn.Parameter(values.clone())

    def composed_weight(self) -> Tensor:
        """The weight with its trained channels in place, detached."""
        update = None if self.weight_update is None else self.weight_update.detach()
        return compose(self.weight.detach(), update, self.update_index, self.update_axis, self.groups)

    def keeps_input(self) -> bool:
        """Whether the whole input is kept, by reference, as things train now."""
        if self.weight.requires_grad:
            return True
        if self.weight_update is None or self.update_index is None:
            return False
        return channels.reads(self.weight, self.update_index, self.update_axis, self.groups) is None


class Conv2d(PartialWeight, nn.Conv2d):
    """`nn.Conv2d` that keeps its input, or some channels of it, only if the weight trains.

    Attributes:
        deferred: Whether the call is handed on to what reads the output.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise UnsupportedError(
                f"a conv with padding {conv.padding!r}, mode {conv.padding_mode}: use zeros and ints"
            )
        pairs = (_pair(conv.stride), _pair(conv.padding), _pair(conv.dilation))
        geometry = (*pairs, conv.groups)
        # On the meta device, so that no weights are drawn that are replaced at once.
        nn.Conv2d.__init__(self, conv.in_channels, conv.out_channels, conv.kernel_size, *geometry, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias
        self._no_update()
        self.geometry: tuple[Pair, Pair, Pair, int] = geometry
        self.standardised = isinstance(conv, StandardisedConv2d)
        self.deferred = False

    def forward(self, input: Tensor, pads: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Tensor | ConvCall:  # type: ignore[override]
        """Convolve (N, C, H, W), with `pads` zeros left, right, above and below besides the layer's own padding."""
        call = ConvCall(
            input,
            self.weight,
            self.weight_update,
            self.bias,
            None,
            None,
            self.update_index,
            self.update_axis,
            (*self.geometry, pads),
            self.standardised,
        )
        return call if self.deferred else convolve(call)


def _pair(sizes: tuple[int, ...]) -> Pair:
    height, width = sizes
    return height, width


class Linear(PartialWeight, nn.Linear):
    """`nn.Linear` of which a set of channels may train."""

    groups = 1

    def __init__(self, linear: nn.Linear) -> None:
        nn.Linear.__init__(self, linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._no_update()

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        output: Tensor = functions.Linear.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.weight_update, self.bias, self.update_index, self.update_axis
        )
        return output


class BatchNorm(_BatchNorm):
    """A batch norm that uses and updates batch statistics only if its policy says so.

    With frozen statistics it is an affine map, in training mode too, and keeps its input only if the scale trains;
    with a frozen scale as well, it becomes part of the convolution in front of it.

    Attributes:
        train_statistics: Whether batch statistics are used in training mode.
        deferred: Whether a call is handed on to what reads the output.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, *, train_statistics: bool) -> None:
        if norm.running_mean is None:
            raise UnsupportedError("a batch norm without running statistics: set track_running_stats")
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train_statistics = train_statistics
        self.deferred = False

    def forward(self, input: Tensor | ConvCall) -> Tensor | ConvCall:  # type: ignore[override]
        """Normalise (N, C, ...), or the output of a convolution that was handed on."""
        if self.training and self.train_statistics:
            return super().forward(input if isinstance(input, Tensor) else convolve(input))
        assert self.running_mean is not None
        assert self.running_var is not None
        if isinstance(input, ConvCall):
            statistics = Statistics(self.running_mean, self.running_var, self.eps)
            call = input._replace(scale=self.weight, shift=self.bias, norm=statistics)
            return call if self.deferred else convolve(call)
        normed: Tensor = functions.FrozenBatchNorm.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.running_mean, self.running_var, self.eps
        )
        return normed


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` of an applied policy: see `BatchNorm`."""


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` of an applied policy: see `BatchNorm`."""


def batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, *, train_statistics: bool) -> BatchNorm:
    """The batch norm of an applied policy in place of PyTorch's own."""
    kind = BatchNorm1d if isinstance(norm, nn.BatchNorm1d) else BatchNorm2d
    return kind(norm, train_statistics=train_statistics)


class MaskedActivation(nn.Module):
    """An activation whose backward pass needs one bit an element.

    Exact for ReLU, ReLU6 and hard sigmoid, whose derivatives are 0 or a constant. As a *sign mask* it approximates
    any activation's derivative by 1 where the input is not negative (MobileTL, Chiang et al. 2023, section 3);
    the forward pass stays exact.

    Args:
        op: relu, relu6, hardsigmoid, hardswish or silu.
        sign: Whether the derivative is the sign mask rather than exact.

    Attributes:
        output_kept: Whether a layer that reads the output keeps all of it: ReLU and ReLU6 then need no mask.
    """

    def __init__(self, op: str, *, sign: bool = False) -> None:
        super().__init__()
        self.op, self.sign, self.output_kept = op, sign, False

    def forward(self, x: Tensor | ConvCall) -> Tensor:
        """Apply element by element to a tensor of any shape, or to the output of a convolution that was handed on."""
        activation = Activation(self.op, self.sign, self.output_kept)
        if isinstance(x, ConvCall):
            return convolve(x._replace(activation=activation))
        if not torch.is_grad_enabled() or not x.requires_grad:
            return activate(x, self.op)
        output: Tensor = functions.MaskedActivation.apply(x, activation)  # type: ignore[no-untyped-call]
        return output

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.op}, sign mask" if self.sign else self.op


class AvgPool2d(nn.Module):
    """Average pooling with stride = kernel that keeps nothing for the backward pass."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, H // k, W // k)."""
        output: Tensor = functions.AvgPool2d.apply(x, self.kernel)  # type: ignore[no-untyped-call]
        return output


class Dropout(nn.Module):
    """`nn.Dropout` that keeps one bit an element for the backward pass."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements with probability p in training mode; any shape."""
        if not self.training:
            return x
        output: Tensor = functions.Dropout.apply(x, self.p)  # type: ignore[no-untyped-call]
        return output


def lean(module: nn.Module | None, op: str) -> nn.Module | None:
    """The replacement that keeps less for an operation without parameters, or None where PyTorch's is as good."""
    if op in EXACT_MASK:
        return MaskedActivation(op)
    if isinstance(module, nn.Dropout) and module.p > 0:
        return Dropout(module.p)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # without scale and shift
        return batch_norm(module, train_statistics=False)
    if isinstance(module, nn.AvgPool2d) and module.kernel_size == module.stride and isinstance(module.stride, int):
        plain = not module.padding and not module.ceil_mode and module.divisor_override is None
        return AvgPool2d(module.stride) if plain else None
    return None
