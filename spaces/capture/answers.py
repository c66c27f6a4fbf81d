"""Whether a graph answers as the network does that it was made of: what is recorded in another way must not differ."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...core.errors import UnsupportedError
from .samples import samples

#: Batches that are compared: others than those that the network was traced on, and one image.
COMPARED = (1, 7)
#: Largest difference, as a share of the largest answer, by the size of an element of the answer in bytes.
TOLERANCE = {8: 1e-6, 4: 2e-3, 2: 0.1}


def check_answers(model: nn.Module, graph: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """Compare the answers of a network and of its graph, both in evaluation mode, to random images.

    Raises:
        UnsupportedError: They differ.
    """
    model = deepcopy(
        model, {id(parameter): parameter for parameter in model.parameters()}
    )  # code may keep things on it
    for batch in COMPARED:
        inputs = samples(model, shapes, batch)
        try:
            expected = _answer(model, inputs)
        except Exception:  # such as of squeeze(), which takes the axis of one image away
            continue
        if not isinstance(expected, Tensor):
            continue  # what has no logits is refused elsewhere
        given = _answer(graph, inputs)
        if not alike(given, expected):
            raise UnsupportedError(
                f"{type(model).__name__} answers otherwise to {batch} images than the graph that was traced of it: its "
                "code changes tensors that others read, or looks at the number of images; let it do neither"
            )


def alike(given: object, expected: Tensor) -> bool:
    """Whether two answers are the same to rounding."""
    if not isinstance(given, Tensor) or given.shape != expected.shape:
        return False
    close = TOLERANCE[expected.element_size()] * float(expected.nan_to_num(0, 0, 0).abs().max().clamp_min(1e-12))
    return torch.allclose(given, expected, rtol=0, atol=close, equal_nan=True)


def _answer(model: nn.Module, inputs: Sequence[Tensor]) -> object:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return model(*(each.clone() for each in inputs))
    finally:
        for module, training in modes.items():
            module.training = training
