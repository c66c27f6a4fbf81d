"""The layers that an applied policy puts in place of PyTorch's own.

Each is a drop-in replacement with the same parameter names, built from the module it replaces. What trains is said
by `requires_grad`; what is kept follows from it in `functions`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import functions
from .errors import UnsupportedError

#: Channel axis of a weight tensor by the policy's word for it.
AXIS = {"out": 0, "in": 1}


class PartialWeight:
    """Mixin: a weight of which a set of channels may train.

    The trained channels are a parameter of their own, `weight_update`, so that gradients and optimizer state exist
    for them alone and the channels outside cannot change.
    """

    weight: Tensor
    weight_update: nn.Parameter | None
    update_index: Tensor | None
    update_axis: int

    def _no_update(self) -> None:
        self.weight_update = None
        self.update_index = None
        self.update_axis = 0

    def train_channels(self, axis: Literal["in", "out"], index: tuple[int, ...], *, depthwise: bool) -> None:
        """Make the given channels trainable, starting from their present values."""
        assert isinstance(self, nn.Module)
        # A depthwise weight is (C, 1, k, k): its input and its output channels are both along axis 0.
        self.update_axis = 0 if depthwise else AXIS[axis]
        self.weight_update = None
        del self.update_index
        self.register_buffer("update_index", torch.tensor(index, device=self.weight.device), persistent=False)
        assert self.update_index is not None
        values = self.weight.detach().index_select(self.update_axis, self.update_index)
        self.weight_update = nn.Parameter(values.clone())

    def composed_weight(self) -> Tensor:
        """The weight with its trained channels in place, detached."""
        return functions.compose(self.weight, self.weight_update, self.update_index, self.update_axis).detach()


class Conv2d(PartialWeight, nn.Conv2d):
    """`nn.Conv2d` that keeps its input, or some channels of it, only if the weight trains."""

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise UnsupportedError(
                f"a conv with padding {conv.padding!r}, mode {conv.padding_mode}: use zeros and ints"
            )
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        # On the meta device, so that no weights are drawn that are replaced at once.
        nn.Conv2d.__init__(self, conv.in_channels, conv.out_channels, conv.kernel_size, *geometry, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias
        self._no_update()
        self.geometry = geometry

    def forward(self, input: Tensor, pads: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Tensor:
        """Convolve (N, C, H, W), with `pads` zeros left, right, above and below besides the layer's own padding."""
        index, axis, geometry = self.update_index, self.update_axis, (*self.geometry, pads)
        output: Tensor = functions.Conv2d.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.weight_update, self.bias, index, axis, geometry
        )
        return output


class Linear(PartialWeight, nn.Linear):
    """`nn.Linear` of which a set of channels may train."""

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


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that uses and updates batch statistics only if its policy says so.

    With frozen statistics it is an affine map, in training mode too, and keeps its input only if the scale trains.
    """

    def __init__(self, norm: nn.BatchNorm2d, *, train_statistics: bool) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.train_statistics = train_statistics

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if self.training and self.train_statistics:
            return super().forward(input)
        output: Tensor = functions.FrozenBatchNorm.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.running_mean, self.running_var, self.eps
        )
        return output


class MaskedActivation(nn.Module):
    """An activation whose backward pass needs one bit an element.

    Exact for ReLU, ReLU6 and hard sigmoid, whose derivatives are 0 or a constant. As a *sign mask* it approximates
    any activation's derivative by 1 where the input is not negative (MobileTL, Chiang et al. 2023, section 3);
    the forward pass stays exact.

    Args:
        op: relu, relu6, hardsigmoid, hardswish or silu.
        sign: Whether the derivative is the sign mask rather than exact.
    """

    def __init__(self, op: str, *, sign: bool = False) -> None:
        super().__init__()
        self.op, self.sign = op, sign

    def forward(self, x: Tensor) -> Tensor:
        """Apply element by element; any shape."""
        if torch.is_grad_enabled() and x.requires_grad:
            masked: Tensor = functions.MaskedActivation.apply(x, self.op, self.sign)  # type: ignore[no-untyped-call]
            return masked
        output: Tensor = getattr(F, self.op)(x)
        return output

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.op}, sign mask" if self.sign else self.op


#: Activations, by the name that policies and costs know them by (and `torch.nn.functional` has them under).
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
}
#: Activations that are exact with one bit an element, and those for which a sign mask is worth choosing.
EXACT_MASK = frozenset({"relu", "relu6", "hardsigmoid"})
SIGN_MASK = frozenset({"relu6", "hardswish", "silu"})


class AvgPool2d(nn.Module):
    """Average pooling with stride = kernel that keeps nothing for the backward pass."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, H // k, W // k)."""
        output: Tensor = functions.AvgPool2d.apply(x, self.kernel)  # type: ignore[no-untyped-call]
        return output


def lean(module: nn.Module | None, op: str) -> nn.Module | None:
    """The replacement that keeps less for an operation without parameters, or None where PyTorch's is as good."""
    if op in EXACT_MASK:
        return MaskedActivation(op)
    if isinstance(module, nn.AvgPool2d) and module.kernel_size == module.stride and isinstance(module.stride, int):
        return AvgPool2d(module.stride) if not module.padding and not module.ceil_mode else None
    return None
