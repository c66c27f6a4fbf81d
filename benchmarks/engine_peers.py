"""What the training engine is compared with: the same policy trained by PyTorch's own layers, and by two savers.

- `plain`: the backbone as it is, `requires_grad` where the policy trains, frozen batch norms in evaluation mode.
- `memsave`: the rule of memsave_torch (Bhatia and Dangel 2024, arXiv 2404.12406), which PyPI does not have: a conv
  keeps its input if its weight trains, a batch norm in evaluation mode if its scale trains, a ReLU a boolean mask.
- `checkpoint`: `torch.utils.checkpoint` over every block.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from tinysearch.spaces.lite_residual import LiteResidual
from tinysearch.spaces.policy import UpdatePolicy


class FrozenNorm(nn.BatchNorm2d):
    """PyTorch's batch norm, on its running statistics whatever mode the network is in."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        return super().train(False)


def plain(backbone: nn.Module, policy: UpdatePolicy, applied: nn.Module) -> nn.Module:
    """The backbone with what the policy trains, lite residual modules as hooks, in PyTorch's own layers."""
    model = deepcopy(backbone).train().requires_grad_(False)
    statistics = {norm.name for norm in policy.norms if norm.statistics}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and name not in statistics:
            module.__class__ = FrozenNorm
            module.eval()
    for lite in policy.lite_residuals:
        module = LiteResidual(lite.shape)
        module.load_state_dict(applied.get_submodule(f"{lite.block}.lite_residual").state_dict())
        block = model.get_submodule(lite.block)
        block.lite_residual = module
        block.register_forward_hook(_add_lite)
    for entry in policy.layers:
        layer = model.get_submodule(entry.name)
        layer.weight.requires_grad_(entry.weight != "none")
        if entry.bias:
            layer.bias.requires_grad_(True)
    for norm in policy.norms:
        model.get_submodule(norm.name).weight.requires_grad_(norm.scale)
        model.get_submodule(norm.name).bias.requires_grad_(norm.shift)
    model.get_submodule(policy.head).requires_grad_(True)
    return model


def _add_lite(block: nn.Module, args: tuple[Tensor], output: Tensor) -> Any:
    return block.lite_residual(args[0], output)


def with_checkpoints(model: nn.Module, blocks: tuple[str, ...]) -> nn.Module:
    """Keep the inputs of blocks alone, and compute each block again in the backward pass."""
    model = deepcopy(model)
    for name in blocks:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, _Checkpointed(model.get_submodule(name)))
    return model


class _Checkpointed(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.block, x, use_reentrant=False)


def memsave(model: nn.Module) -> nn.Module:
    """memsave_torch's layers in place of PyTorch's."""
    model = deepcopy(model)
    for name, module in list(model.named_modules()):
        replacement: nn.Module | None = None
        if type(module) is nn.Conv2d:
            replacement = _Applied(module, _conv)
        elif isinstance(module, FrozenNorm):
            replacement = _Applied(module, _norm)
        elif type(module) is nn.ReLU:
            replacement = _Applied(module, _relu)
        if replacement is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, replacement)
    return model


class _Applied(nn.Module):
    """A module computed in another way; `named_parameters` of it begin with `own.`."""

    def __init__(self, own: nn.Module, run: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.own, self.run = own, run

    def forward(self, x: Tensor) -> Any:
        return self.run(self.own, x)


def _conv(conv: nn.Conv2d, x: Tensor) -> Any:
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return _MemSaveConv.apply(x, conv.weight, conv.bias, *geometry)


def _norm(norm: nn.BatchNorm2d, x: Tensor) -> Any:
    return _MemSaveNorm.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def _relu(_: nn.ReLU, x: Tensor) -> Any:
    return _MemSaveReLU.apply(x)


class _MemSaveConv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        ctx.shape, ctx.geometry, ctx.bias = x.shape, geometry, bias is not None
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        x = torch.zeros(ctx.shape, device=grads[0].device) if x is None else x
        stride, padding, dilation, groups = ctx.geometry
        sizes, mask = [len(weight)] if ctx.bias else None, list(ctx.needs_input_grad[:3])
        result = torch.ops.aten.convolution_backward(
            grads[0], x, weight, sizes, stride, padding, dilation, False, [0, 0], groups, mask
        )
        return *result, None, None, None, None


class _MemSaveNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.shape, ctx.eps = x.shape, eps
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight, mean, var)
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, mean, var = ctx.saved_tensors
        x = torch.zeros(ctx.shape, device=grads[0].device) if x is None else x
        mask = list(ctx.needs_input_grad[:3])
        result = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, var, None, None, False, ctx.eps, mask
        )
        return *result, None, None, None


class _MemSaveReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = x > 0
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


def sign_masked(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """Sign masks in PyTorch's own operations, for the comparison of gradients: exact value, slope 1 where x >= 0."""
    model = deepcopy(model)
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, _Applied(model.get_submodule(name), _straight_through))
    return model


def _straight_through(activation: nn.Module, x: Tensor) -> Any:
    passed = x * (x >= 0)
    return passed + (activation(x) - passed).detach()
