"""Fine-tuning a member of a finished run, and merging what it changed into its backbone."""

import time
from pathlib import Path

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.units import format_bytes
from ..results.rundir import RunDirectory
from ..results.tables import percent
from ..search.finetune import finetune
from ..search.problem import one_thread, requested_weights
from ..search.request import Request
from ..spaces.backbones import load_backbone
from ..spaces.delta import read_delta
from ..spaces.delta.merging import merge
from ..spaces.policy import UpdatePolicy
from .members import find_member, load_task, named_backbone


def finetune_member(
    run_dir: Path,
    *,
    policy: str,
    max_memory: str | None,
    data_dir: Path | None,
    weights: str | None,
    steps: int,
    test_images: int | None,
    delta: Path | None,
) -> str:
    """Train a member of a run's front on the whole training split; lines with its test accuracy and its delta.

    Raises:
        InputError: The run has no such member, its data or weights are not given, or the delta cannot be kept there.
    """
    if delta is not None:
        _check_target(delta)  # before minutes of training
    run = RunDirectory.load(run_dir)
    member = find_member(run, policy, max_memory)
    task = load_task(run, data_dir=data_dir, weights=weights)
    chosen = UpdatePolicy.load(run.policy_path(member))
    start = time.perf_counter()
    with one_thread():
        result = finetune(task.backbone, chosen, task.dataset, steps=steps, test_images=test_images)
    seconds = time.perf_counter() - start
    name = member.method or member.hash[:8]
    text = (
        f"{name}: test accuracy {percent(result.accuracy, result.accuracy_se)} after {steps} "
        f"steps, {seconds:.0f} s; the proxy said {percent(member.accuracy, member.accuracy_se)}"
    )
    if delta is not None:
        data = chosen.delta(result.model)
        write_atomically(delta, data)
        whole = sum(tensor.nbytes for tensor in task.backbone.state_dict().values())
        text += f"\n{delta}: what training changed, {format_bytes(len(data))} (the network: {format_bytes(whole)})"
    return text


def merge_delta(delta: Path, *, backbone: str | None, weights: str | None, out: Path) -> str:
    """Write the weights of the plain network that a delta gives with its backbone; a line that says how to use them.

    Raises:
        InputError: The delta or a name is wrong, or `out` cannot be written.
        MissingDataError: The backbone's weights are missing.
        ConflictError: The delta was trained on other weights.
    """
    from safetensors.torch import save

    _check_target(out)
    change = read_delta(delta)
    backbone = named_backbone(backbone, change.policy.backbone, str(delta))
    request = Request.make(backbone=backbone, weights=weights)
    network = load_backbone(request.backbone, num_classes=change.classes, weights=requested_weights(request))
    state = merge(network, change).state_dict()
    # Clones, since tensors that share memory are refused.
    write_atomically(out, save({name: tensor.contiguous().clone() for name, tensor in state.items()}))
    text = f"{out}: {change.policy.backbone}, {change.classes} classes, {format_bytes(out.stat().st_size)}"
    if lites := len(change.policy.lite_residuals):
        return f"{text}; with {lites} lite residual modules, which --weights does not take: load it by ts.merge"
    return f"{text}; --weights takes it"


def _check_target(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a safetensors file is written: let its name end in .safetensors")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
