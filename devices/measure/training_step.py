"""The truth that the cost models are held to: what a training step really keeps, and how long it takes here."""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ...spaces.engine.origin import Origin, find_origin
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace, trace
from ..calibrate.standalone import keep_freed_memory
from ..step.saved import saved_bytes
from .meter import SavedTensor, saved_tensors

#: Learning rate of the measured steps: small, so that values stay in their range.
RATE = 1e-4


@dataclass(frozen=True, slots=True)
class LayerSaved:
    """What is kept of one row of the trace: its output, and what it makes to keep besides.

    Attributes:
        name: Qualified name of the layer or operation.
        predicted_bytes: By the cost models; None where there is no prediction.
        measured_bytes: What autograd kept.
        tensors: What that is made of.
    """

    name: str
    predicted_bytes: int | None
    measured_bytes: int
    tensors: tuple[SavedTensor, ...]


@dataclass(frozen=True)
class Measurement:
    """One training step, measured.

    Attributes:
        saved_bytes: Bytes kept between the network's input and its logits.
        tensors: What they are made of, in the order in which they were kept.
        step_seconds: Median time of a step: forward, loss, backward and update.
        predicted: Bytes that the cost models say each layer keeps, in data-flow order and those that keep any; None
            for a model that is no applied policy.
    """

    saved_bytes: int
    tensors: tuple[SavedTensor, ...]
    step_seconds: float
    predicted: Mapping[str, int] | None = None

    @property
    def predicted_bytes(self) -> int | None:
        """What the cost models say is kept, in all; None for a model that is no applied policy."""
        return None if self.predicted is None else sum(self.predicted.values())

    @property
    def as_predicted(self) -> bool:
        """Whether every layer keeps what was predicted, to the byte; not so where there is no prediction."""
        return self.predicted is not None and all(
            layer.predicted_bytes == layer.measured_bytes for layer in self.by_layer()
        )

    def by_layer(self) -> tuple[LayerSaved, ...]:
        """What was measured beside what was predicted, for every layer of which either says that something is kept."""
        tensors: dict[str, list[SavedTensor]] = {name: [] for name in self.predicted or ()}
        for tensor in self.tensors:
            tensors.setdefault(tensor.made_by, []).append(tensor)
        return tuple(
            LayerSaved(
                name,
                None if self.predicted is None else self.predicted.get(name, 0),
                sum(tensor.bytes for tensor in kept),
                tuple(kept),
            )
            for name, kept in tensors.items()
        )


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, *, optimizer: str = "adam", repeats: int = 5
) -> Measurement:
    """Run training steps on a copy of a model and see what they keep and take, beside what was predicted.

    From then on the process keeps the memory that tensors free, as those of a search and of a calibration do: without
    that, a third of a step's time on Linux is page faults.

    Args:
        model: What `apply` returned; or any other model, of which nothing is predicted. Unchanged by this.
        images: One batch, (N, C, H, W).
        labels: Its classes, (N,).
        optimizer: Name of an optimizer.
        repeats: Timed steps, after one that is not timed.

    Returns:
        Saved bytes: distinct storages, with parameters, buffers and the batch itself left out; in all, tensor by
        tensor, and `by_layer()` beside the prediction.

    Raises:
        InputError: Nothing of the model trains, or the optimizer is unknown.

    Example:
        >>> import torch
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> model = ts.apply(backbone, ts.methods.bias(trace))
        >>> measured = ts.measure(model, torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
        >>> measured.saved_bytes, measured.as_predicted
        (23624, True)
    """
    keep_freed_memory()
    model = deepcopy(model).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("no parameter of the model has requires_grad: apply a policy first")
    update = OPTIMIZERS.load(optimizer).make(trained, lr=RATE)
    origin = find_origin(model)
    found = None if origin is None else trace(origin.backbone, images.shape[1:])
    tensors = saved_tensors(model, images, None if found is None else found.index)

    def step() -> float:
        start = _now(images)
        loss = F.cross_entropy(model(images), labels)
        update.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        update.step()
        return _now(images) - start

    step()
    seconds = median(step() for _ in range(repeats))
    predicted = None if origin is None or found is None else _predicted(found, origin, images)
    return Measurement(sum(tensor.bytes for tensor in tensors), tensors, seconds, predicted)


def _predicted(found: Trace, origin: Origin, images: Tensor) -> dict[str, int]:
    """Bytes kept, by row that keeps any, in the images' type, which activations have here."""
    rows = saved_bytes(UpdateTable.of(found, [origin.policy]), len(images), images.element_size())[0]
    return {found.rows[row].name: int(rows[row]) for row in found.order if rows[row]}


def _now(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter()
