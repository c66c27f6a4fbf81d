"""The first measurement of a network that nobody has seen: it must keep what is predicted, to the byte."""

import hashlib
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import version

import torch
from torch import nn

from ...core.errors import UnsupportedError
from ...core.files import cache_folder, write_atomically
from ...core.registry import one_line
from ...spaces import methods
from ...spaces.capture.answers import alike
from ...spaces.capture.samples import samples
from ...spaces.engine.apply import assemble
from ...spaces.policy import UpdatePolicy
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace
from ..step.saved import saved_bytes
from .meter import saved_tensors

#: Images of the measurement: batch norms need two.
BATCH = 2
#: Largest difference of a gradient, as a share of its length: rounding stays far below it, and an error does not.
GRADIENT = 0.05
_REPORT = "please report this network, and write what its code does in plain operations of torch.nn"


def measure_first(network: nn.Module, found: Trace) -> None:
    """Compare what policies keep of random images with what is predicted, and gradients with those of plain PyTorch.

    The policies are `last`, `bias` and `full`.

    A network that has passed is noted in the cache by a digest of its modules, its trace and the versions, and not
    measured again.

    Args:
        network: Any network, unchanged by this.
        found: Its trace.

    Raises:
        UnsupportedError: A layer keeps other bytes than predicted, has another gradient, or cannot be trained.
    """
    versions = torch.__version__, version("tinysearch")
    facts = repr((versions, network, found.input_shape, found.rows, found.blocks))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    passed = cache_folder() / "measured" / digest
    if passed.is_file():
        return
    for method in (methods.last, methods.bias, methods.full):
        _compare(network, found, method(found))
    _compare_gradients(network, found)
    with suppress(OSError):  # a cache that cannot be written costs time, and no more
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(passed, found.name)


def _compare_gradients(network: nn.Module, found: Trace) -> None:
    """Answers and gradients of `full` on frozen statistics against those of plain PyTorch."""
    full = methods.full(found)
    frozen = tuple(norm.model_copy(update={"statistics": False}) for norm in full.norms)
    applied = assemble(network, full.model_copy(update={"norms": frozen})).eval()
    plain = deepcopy(network).eval().requires_grad_(True)
    (images,) = samples(network, (found.input_shape,), BATCH)
    logits = []
    for model in (applied, plain):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # code may draw numbers
            logits.append(model(images.clone()))
    if not alike(logits[0].detach(), logits[1].detach()):
        raise UnsupportedError(
            f"{found.name} answers otherwise with its layers replaced by those that train: {_REPORT}"
        )
    own = dict(applied.named_parameters())
    shared = {name: each for name, each in plain.named_parameters() if name in own}
    wanted = torch.autograd.grad(logits[1].square().sum(), list(shared.values()), allow_unused=True)
    given = torch.autograd.grad(logits[0].square().sum(), [own[name] for name in shared], allow_unused=True)
    largest = max((float(each.norm()) for each in wanted if each is not None), default=0.0)
    for name, mine, theirs in zip(shared, given, wanted, strict=True):
        mine, theirs = (torch.zeros(1).to(images) if each is None else each for each in (mine, theirs))
        if float((mine - theirs).norm()) > GRADIENT * (float(theirs.norm()) + GRADIENT * largest):
            raise UnsupportedError(f"{found.name} has another gradient of {name} than in plain PyTorch: {_REPORT}")


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
                f"keeps {measured.get(name, 0)} B of {BATCH} images and not the predicted {by_name.get(name, 0)}: "
                f"{_REPORT}"
            )
