"""Fine-tuning a member of a finished run, from nothing but the run directory."""

import time
from pathlib import Path

from .results.rundir import RunDirectory
from .results.tables import percent
from .search.finetune import finetune
from .search.request import Request
from .search.run import identity, one_thread, prepare
from .spaces.errors import ConflictError, InputError
from .spaces.policy import UpdatePolicy


def finetune_member(
    run_dir: Path,
    *,
    policy: str,
    max_memory: str | None,
    data_dir: Path | None,
    weights: str | None,
    steps: int,
    test_images: int | None,
) -> str:
    """Train a member of a run's front on the whole training split; a line with its test accuracy.

    Raises:
        InputError: The run has no such member, or its data or weights are not given.
    """
    run = RunDirectory.load(run_dir)
    if policy == "best":
        member = run.front.best(memory=max_memory)
    else:
        matching = [m for m in run.front.members if m.hash.startswith(policy) or m.method == policy]
        if len(matching) != 1:
            raise InputError(f"{len(matching)} members of the front of {run_dir} are called {policy!r}: see `show`")
        member = matching[0]
    stated = {key: value for key, value in run.request.items() if key in Request.model_fields}
    given = {"data_dir": data_dir, "weights": weights}
    task = prepare(Request.make(**(stated | {key: value for key, value in given.items() if value is not None})))
    if identity(task)["backbone_sha256"] != run.request["backbone_sha256"]:
        raise ConflictError(f"these are not the weights that {run_dir} was searched with: give those as --weights")
    start = time.perf_counter()
    with one_thread():
        result = finetune(
            task.backbone,
            UpdatePolicy.load(run.policy_path(member)),
            task.dataset,
            steps=steps,
            test_images=test_images,
        )
    name = member.method or member.hash[:8]
    return (
        f"{name}: test accuracy {percent(result.accuracy, result.accuracy_se)} after {steps} "
        f"steps, {time.perf_counter() - start:.0f} s; the proxy said {percent(member.accuracy, member.accuracy_se)}"
    )
