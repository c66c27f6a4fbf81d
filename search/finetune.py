"""Fine-tuning in full: of a network under a policy, or of a member of a run's front."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..core.errors import InputError
from ..core.files import check_output, write_atomically
from ..results.records import Member
from ..results.rundir import RunDirectory
from ..spaces.engine.origin import require_origin
from ..spaces.policy import UpdatePolicy
from .data import Dataset
from .data.pictures import Augmentation
from .networks import weights_for
from .problem import Problem
from .target import FineTuning, Target
from .threads import one_thread

#: Optimizer steps where neither the caller nor the policy says.
STEPS = 200
#: How training images may be varied, by name.
AUGMENTATIONS = {
    "none": None,
    "shift": Augmentation(shift=1 / 12),
    "shift+flip": Augmentation(shift=1 / 12, flip=True),
}


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave.

    Attributes:
        accuracy: Share of test images answered right.
        accuracy_se: Its standard error, from the number of test images.
        loss: Mean cross-entropy on the test images, nats.
        model: The trained model.
        policy: What was trained.
        steps: Optimizer steps.
        seconds: Wall time of all that: tuning, training and testing.
        learning_rate: The highest rate of the training.
        member: The member of the run's front that it is; None where no run was given.
    """

    accuracy: float
    accuracy_se: float
    loss: float
    model: nn.Module
    policy: UpdatePolicy
    steps: int
    seconds: float
    learning_rate: float
    member: Member | None = None

    @property
    def network_bytes(self) -> int:
        """Bytes of the whole network that was trained: what its delta compares with."""
        return sum(tensor.nbytes for tensor in require_origin(self.model).backbone.state_dict().values())


@dataclass(frozen=True)
class _Subject:
    """What is trained, on what."""

    backbone: nn.Module
    policy: UpdatePolicy
    dataset: Dataset
    member: Member | None = None


def finetune(
    backbone: nn.Module | RunDirectory | str | Path,
    policy: UpdatePolicy | str = "best",
    dataset: Dataset | None = None,
    *,
    steps: int | None = None,
    batch: int = 32,
    learning_rate: float | None = None,
    augmentation: str = "none",
    train_images: int | None = None,
    test_images: int | None = None,
    seed: int = 0,
    delta: str | Path | None = None,
    max_memory: str | float | None = None,
    data_dir: str | Path | None = None,
    weights: str | None = None,
) -> FineTuned:
    """Train what a policy says on a data set's training split and measure on its test split.

    The head starts from class prototypes, as in the proxy. The rate climbs in the first fifth of the steps and then
    falls to zero along a cosine; gradients are clipped. Two ways to call it:

    - `finetune(backbone, policy, dataset)` trains a network of yours.
    - `finetune(run, "best")` trains a member of a run's front: the network and the data are those of the run, and one
      thread computes, as in the run.

    Args:
        backbone: The pretrained network, unchanged by this, with `input_size` and `normalisation`; or a run, or its
            directory.
        policy: What trains, and with which optimizer; of a run, `best`, the start of a hash, or a method's name.
        dataset: The target; not of a run.
        steps: Optimizer steps; None takes those that the policy states, or else `STEPS`.
        batch: Images of a step.
        learning_rate: The highest rate; None finds it by short trainings on four fifths of the training images, judged
            by the others, from the policy's tuned rate on.
        augmentation: How training images are varied: one of `AUGMENTATIONS`.
        train_images: Use the first so many of a shuffled training split; None uses all.
        test_images: Likewise for the test split.
        seed: Seed of all shuffling.
        delta: A .safetensors file to keep what training changed in; `merge` puts it back.
        max_memory: Of a run, with `best`: most peak training memory, such as "256KiB".
        data_dir: Of a run: where data sets lie.
        weights: Of a run: the weights, if they were a file that has moved; of several networks see `run`.

    Raises:
        InputError: A number is not positive, the policy is for another backbone, the run has no such member, or the
            delta cannot be kept there.
        MissingDataError: Data or weights of the run are missing.
        ConflictError: The weights are not those of the run.

    Example:
        >>> import tinysearch as ts
        >>> tuned = ts.finetune("runs/digits", steps=2, test_images=50, delta="change.safetensors")
        >>> 0 <= tuned.accuracy <= 1
        True
        >>> merged = ts.merge_file("change.safetensors", "plain.safetensors")
    """
    file = None if delta is None else Path(delta)
    if file is not None:
        check_output(file, ".safetensors")  # before minutes of training
    counts = {"steps": steps, "batch": batch, "train_images": train_images, "test_images": test_images}
    for name, stated in counts.items():
        if stated is not None and stated < 1:
            raise InputError(f"finetune: {name} is {stated}: it must be at least 1")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"finetune: learning_rate is {learning_rate}: it must be positive")
    if augmentation not in AUGMENTATIONS:
        raise InputError(f"finetune: augmentation is {augmentation!r}: there are {', '.join(AUGMENTATIONS)}")
    if isinstance(backbone, nn.Module):
        subject = _of_network(backbone, policy, dataset, max_memory=max_memory, data_dir=data_dir, weights=weights)
    else:
        subject = _of_run(backbone, policy, dataset, max_memory, data_dir, weights)
    count = next(n for n in (steps, subject.policy.training.steps, STEPS) if n is not None)
    start = time.perf_counter()
    with one_thread() if subject.member is not None else nullcontext():
        target = Target(
            subject.backbone,
            subject.policy.head,
            subject.dataset,
            subject.policy.side,
            train_images=train_images,
            test_images=test_images,
            augmentation=AUGMENTATIONS[augmentation],
            seed=seed,
        )
        tuning = FineTuning(target, subject.policy, batch, seed=seed)
        rate = learning_rate if learning_rate is not None else tuning.find_rate(count, seed)
        answers = tuning.train(rate, count, seed)
    seconds = time.perf_counter() - start
    if file is not None:
        write_atomically(file, subject.policy.delta(tuning.model))
    return FineTuned(
        accuracy=answers.accuracy,
        accuracy_se=answers.accuracy_se,
        loss=answers.loss,
        model=tuning.model,
        policy=subject.policy,
        steps=count,
        seconds=seconds,
        learning_rate=rate,
        member=subject.member,
    )


def _of_network(backbone: nn.Module, policy: UpdatePolicy | str, dataset: Dataset | None, **of_run: Any) -> _Subject:
    for name, value in of_run.items():
        if value is not None:
            raise InputError(f"finetune: {name} is for members of a run: leave it out with a network")
    if isinstance(policy, str) or dataset is None:
        raise InputError("finetune: with a network, give the policy itself and a data set")
    return _Subject(backbone, policy, dataset)


def _of_run(
    run: RunDirectory | str | Path,
    policy: UpdatePolicy | str,
    dataset: Dataset | None,
    max_memory: str | float | None,
    data_dir: str | Path | None,
    weights: str | None,
) -> _Subject:
    if not isinstance(policy, str) or dataset is not None:
        raise InputError("finetune: with a run, name a member of its front and leave out the data set: it is the run's")
    run = run if isinstance(run, RunDirectory) else RunDirectory.load(run)
    member = run.front.find(policy, max_memory)
    own = run.of(member)
    problem = Problem.of_run(own, data_dir, weights_for(own, run, weights))
    return _Subject(problem.backbone, UpdatePolicy.load(run.policy_path(member)), problem.dataset, member)
