"""The truth that the cost models are held to: what a training step really keeps, and how long it takes here."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..spaces.errors import InputError


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A storage kept from the forward to the backward pass.

    Attributes:
        name: Qualified name of the module that first kept it; empty for an operation outside of modules.
        shape: Shape of the tensor that was kept.
        bytes: Bytes of its storage.
    """

    name: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Measurement:
    """One training step, measured.

    Attributes:
        saved_bytes: Bytes kept between the network's input and its logits.
        tensors: What they are made of, in the order in which they were kept.
        step_seconds: Median time of a step: forward, loss, backward and update.
    """

    saved_bytes: int
    tensors: tuple[SavedTensor, ...]
    step_seconds: float


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, *, optimizer: str = "adam", repeats: int = 5
) -> Measurement:
    """Run training steps on a copy of a model and see what they keep and take.

    Args:
        model: A model, such as `apply` returns; unchanged by this.
        images: One batch, (N, C, H, W).
        labels: Its classes, (N,).
        optimizer: adam, sgd or sgd-momentum.
        repeats: Timed steps, after one that is not timed.

    Returns:
        Saved bytes: distinct storages, with parameters, buffers and the batch itself left out.

    Raises:
        InputError: Nothing of the model trains, or the optimizer is unknown.
    """
    model = deepcopy(model).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("no parameter of the model has requires_grad: apply a policy first")
    update = _optimizer(optimizer, trained)
    tensors = tuple(_saved(model, images))

    def step() -> float:
        start = _now(images)
        loss = F.cross_entropy(model(images), labels)
        update.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        update.step()
        return _now(images) - start

    step()
    seconds = median(step() for _ in range(repeats))
    return Measurement(sum(tensor.bytes for tensor in tensors), tensors, seconds)


def _saved(model: nn.Module, images: Tensor) -> list[SavedTensor]:
    own = [*model.parameters(), *model.buffers(), images]
    ignored = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, SavedTensor] = {}
    held: list[Tensor] = []  # a freed storage's address could come again

    with _running_module(model) as running:

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            held.append(tensor)
            if storage.nbytes() and storage.data_ptr() not in ignored:
                saved = SavedTensor(running[-1], tuple(tensor.shape), storage.nbytes())
                kept.setdefault(storage.data_ptr(), saved)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(images)
    del logits
    return list(kept.values())


@contextmanager
def _running_module(model: nn.Module) -> Iterator[list[str]]:
    """A stack of the names of the modules that are running, the innermost last."""
    stack = [""]
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)))
        handles.append(module.register_forward_hook(lambda *_: stack.pop() and None))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _optimizer(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(parameters, lr=1e-4)
    if name in ("sgd", "sgd-momentum"):
        return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9 if name == "sgd-momentum" else 0.0)
    raise InputError(f"{name!r} is no optimizer: use adam, sgd or sgd-momentum")


def _now(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter()
