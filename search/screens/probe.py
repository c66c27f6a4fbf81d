"""The network that gradients are taken of: the backbone under a prototype head, with all lite residual modules."""

from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from ...spaces.engine.apply import insert_lite_residuals
from ...spaces.graph import block_names, symbolic_trace
from ...spaces.lite_residual import LiteResidual
from ...spaces.policy import UpdatePolicy
from ...spaces.space import lite_update
from ..proxies.classifier import set_head
from ..proxies.prototypes import FrozenBackbone
from .task import ScreenTask

#: Scale of a lite residual module's last norm where its gradients are taken. It is assumed, not fitted: the most that
#: Adam reaches in 100 steps of 1e-3.
LITE_SCALE = 0.1


def probe(task: ScreenTask, fitted: Tensor) -> fx.GraphModule:
    """A copy of a task's backbone in evaluation mode, which computes what the backbone computes under its new head.

    A lite residual module stands beside every block that can take one, and adds nothing. The gradient flows into it as
    if it added its answer, and not out of it to the blocks before. A module starts with a last norm of scale 0, where
    its other layers have no gradient at all; so its last norm has the scale `LITE_SCALE` here. The gradients of that
    norm's own scale and shift do not depend on it.

    Args:
        task: The network and its images.
        fitted: Indices of the images whose class prototypes are the head.
    """
    backbone, trace = task.backbone, task.trace
    head = FrozenBackbone(backbone, task.head, trace.input_shape).prototypes(task.images[fitted], task.labels[fitted])
    graph = symbolic_trace(deepcopy(backbone).eval(), trace.input_shape)
    graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
    set_head(graph, task.head, head)
    lite = tuple(lite_update(trace, block) for block in trace.blocks if block.lite)
    policy = UpdatePolicy(backbone=trace.name, input_shape=trace.input_shape, head=task.head, lite_residuals=lite)
    insert_lite_residuals(graph, block_names(backbone), policy, seed=task.seed, prepare=_silent)
    graph.recompile()
    return graph.eval().requires_grad_(False)


def _silent(module: LiteResidual) -> LiteResidual:
    """Let a module add nothing and take the gradient of what it would add."""
    nn.init.constant_(module.norm2.weight, LITE_SCALE)
    module.register_forward_pre_hook(lambda _, operands: (operands[0].detach().requires_grad_(), operands[1]))
    module.register_forward_hook(lambda _, operands, answer: answer + (operands[1] - answer).detach())
    return module
