"""TinyTrain (Kwon et al., ICML 2024): layers and output channels chosen once per task by Fisher information.

The information of channel o of a layer with activation a (its output) and gradient g, over N samples and D positions,
is Delta_o = 1/(2N) sum_n (sum_d a_nd g_nd)^2; that of a layer is the sum over its channels. A layer's score is its
information over its share of parameters times its share of multiply-accumulates.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ..graph import symbolic_trace
from ..policy import Channels, LayerUpdate, NormUpdate, UpdatePolicy
from ..trace import Layer, Trace

FloatArray = npt.NDArray[np.float64]

#: Bytes that a trained weight needs: itself, its gradient and Adam's two moments, 4 each (the paper's accounting).
BYTES_PER_WEIGHT = 16


def channel_fisher(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, FloatArray]:
    """Fisher information of every output channel of every convolution, in one backward pass.

    Args:
        model: A network with the head that fits the labels; left unchanged, run in evaluation mode.
        images: (N, C, H, W), normalised.
        labels: (N,) integers.

    Returns:
        By module name, (out_channels,) values of Delta_o.
    """
    outputs: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: object, output: Tensor, *, name: str) -> Tensor:
        # The first activation is made to need a gradient, so that frozen networks can be measured too.
        kept = output if output.requires_grad else output.detach().requires_grad_(True)
        outputs[name] = kept
        return kept

    graph = symbolic_trace(model, tuple(images.shape[1:]))  # whose convolutions have the names that a trace has
    hooks = [
        module.register_forward_hook(partial(keep, name=name))
        for name, module in graph.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    training = {module: module.training for module in graph.modules()}
    graph.eval()
    try:
        with torch.enable_grad():
            loss = F.cross_entropy(graph(images), labels, reduction="sum")
            gradients = torch.autograd.grad(loss, list(outputs.values())) if outputs else ()
    finally:
        for module, mode in training.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    return {
        name: ((activation.detach() * gradient).flatten(2).sum(2).square().sum(0) / (2 * len(images))).double().numpy()
        for (name, activation), gradient in zip(outputs.items(), gradients, strict=True)
    }


def tinytrain(
    trace: Trace,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    memory: int = 2**20,
    compute: float = 0.15,
    ratio: float = 0.5,
) -> UpdatePolicy:
    """TinyTrain's policy for a task.

    Layers are taken in the order of their score while both budgets hold; a layer that does not fit is passed over.

    Args:
        trace: The backbone.
        model: The backbone with a head that fits the labels.
        images: The user's support images, (N, C, H, W), normalised.
        labels: Their labels, (N,).
        memory: Budget for trained weights, gradients and Adam's moments, in bytes (the paper: about 1 MB).
        compute: Budget for the backward pass as a share of full training's (the paper: about 15 %).
        ratio: Share of a chosen layer's output channels that train; the paper leaves it open.

    Returns:
        The chosen output channels of the chosen layers, with their biases or norm shifts, and the head.

    Raises:
        InputError: A budget is not positive, or the ratio not in (0, 1].

    Example:
        >>> import torch
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> images, labels = torch.linspace(-1, 1, 8 * 3072).view(8, 3, 32, 32), torch.arange(8)
        >>> policy = ts.methods.tinytrain(trace, backbone, images, labels)
        >>> {entry.weight.axis for entry in policy.layers}
        {'out'}
    """
    if memory <= 0 or compute <= 0 or not 0 < ratio <= 1:
        raise InputError(
            f"tinytrain: memory {memory}, compute {compute} and ratio {ratio} must be positive, ratio <= 1"
        )
    information = channel_fisher(model, images, labels)
    rows = [n for n, layer in enumerate(trace.layers) if layer.kind == "conv" and layer.sliceable and n != trace.head]
    scores = _scores(trace, rows, information)
    full_backward = 2 * trace.macs_forward
    head = trace.layers[trace.head]
    used_memory = BYTES_PER_WEIGHT * head.params
    chosen: dict[int, int] = {}
    for row in sorted(rows, key=lambda n: -scores[n]):
        layer = trace.layers[row]
        count = max(1, round(ratio * layer.out_channels))
        bytes_needed = BYTES_PER_WEIGHT * (layer.params * count // layer.out_channels)
        candidate = chosen | {row: count}
        within = _backward_macs(trace, candidate) <= compute * full_backward
        if within and used_memory + bytes_needed <= memory:
            chosen, used_memory = candidate, used_memory + bytes_needed
    layers = []
    for row, count in sorted(chosen.items()):
        layer = trace.layers[row]
        best = np.argsort(-information[layer.name], kind="stable")[:count]
        channels = Channels(axis="out", index=tuple(sorted(int(c) for c in best)))
        whole = count == layer.out_channels
        layers.append(LayerUpdate(name=layer.name, weight="all" if whole else channels, bias=layer.bias))
    norms = [NormUpdate(name=n.name, shift=True) for n in trace.layers if n.kind == "norm" and n.inputs[0] in chosen]
    return UpdatePolicy(
        backbone=trace.name,
        input_shape=trace.input_shape,
        head=head.name,
        layers=tuple(layers),
        norms=tuple(norms),
        method="tinytrain",
    )


def _scores(trace: Trace, rows: list[int], information: dict[str, FloatArray]) -> dict[int, float]:
    most_params = max((trace.layers[n].weights for n in rows), default=1)
    most_macs = max((trace.layers[n].macs_forward for n in rows), default=1)

    def score(layer: Layer) -> float:
        share = (layer.weights / most_params) * (layer.macs_forward / most_macs)
        return float(information[layer.name].sum()) / share

    return {n: score(trace.layers[n]) for n in rows}


def _backward_macs(trace: Trace, chosen: dict[int, int]) -> float:
    """MACs of dW of the chosen channels, and of dX of the layers above the lowest of them."""
    lowest = min(chosen)
    total = float(trace.layers[trace.head].macs_dw)
    for row, layer in enumerate(trace.layers):
        total += layer.macs_dx if row > lowest else 0
        total += layer.macs_dw * chosen[row] / layer.out_channels if row in chosen else 0
    return total
