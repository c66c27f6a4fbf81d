"""The first measurement of a network that nobody has seen: it must keep what is predicted, to the byte."""

import hashlib
from contextlib import suppress

import torch
from torch import nn

from ...core.errors import UnsupportedError
from ...core.files import cache_folder, write_atomically
from ...core.registry import one_line
from ...spaces import methods
from ...spaces.capture.samples import samples
from ...spaces.engine.apply import assemble
from ...spaces.policy import UpdatePolicy
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace
from ..step.saved import saved_bytes
from .meter import saved_tensors

#: Images of the measurement: batch norms need two.
BATCH = 2


def measure_first(network: nn.Module, found: Trace) -> None:
    """Compare what `last`, `bias` and `full` keep of random images with what is predicted.

    Bytes follow from the trace and the installed PyTorch alone, so a network that has passed is noted in the cache by
    the digest of both, and not measured again.

    Args:
        network: Any network, unchanged by this.
        found: Its trace.

    Raises:
        UnsupportedError: A layer keeps other bytes than predicted, or cannot be trained; it is named.
    """
    digest = hashlib.sha256(repr((torch.__version__, found.input_shape, found.rows, found.blocks)).encode()).hexdigest()
    passed = cache_folder() / "measured" / digest
    if passed.is_file():
        return
    for method in (methods.last, methods.bias, methods.full):
        _compare(network, found, method(found))
    with suppress(OSError):  # a cache that cannot be written costs time, and no more
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(passed, found.name)


def _compare(network: nn.Module, found: Trace, policy: UpdatePolicy) -> None:
    (images,) = samples(network, (found.input_shape,), BATCH)
    predicted = saved_bytes(UpdateTable.of(found, [policy]), BATCH, images.element_size())[0]
    by_name = {found.rows[row].name: int(predicted[row]) for row in found.order if predicted[row]}
    model = assemble(network, policy).train()
    measured: dict[str, int] = {}
    try:
        for tensor in saved_tensors(model, images, found.index):
            measured[tensor.made_by] = measured.get(tensor.made_by, 0) + tensor.bytes
        model(images).sum().backward()
    except Exception as error:  # whatever the network's code raises in training mode
        raise UnsupportedError(
            f"{found.name} cannot be trained under the policy {policy.method}: {one_line(error)}; mend what its "
            "forward does in training mode"
        ) from error
    for name in {**by_name, **measured}:
        if by_name.get(name, 0) != measured.get(name, 0):
            raise UnsupportedError(
                f"{found.name} would be predicted wrongly: under the policy {policy.method}, {name or 'an operation'} "
                f"keeps {measured.get(name, 0)} B of {BATCH} images and not the predicted {by_name.get(name, 0)}; "
                "please report this network, and write what surrounds that layer in plain operations of torch.nn"
            )
