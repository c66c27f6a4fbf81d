"""The exporter `c`: a policy's training step as a folder of C99."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ....core.errors import InputError, UnsupportedError
from ....devices.profile import DeviceProfile, load_device
from ....devices.profile.model import Dtypes
from ....spaces.optimizers import OPTIMIZERS
from ....spaces.policy import UpdatePolicy
from ..base import Exporter

if TYPE_CHECKING:
    from torch import nn

#: The device that a program is for unless another is named.
DEVICE = "cortex-m7"
#: Most images of a step: the self-test trains some steps of as many in PyTorch.
MOST_IMAGES = 256
#: The optimizers that a program can have.
STEPPERS = ("sgd", "sgd-momentum")


class CExporter(Exporter):
    """Writes a self-contained C99 program that trains a policy on a microcontroller.

    Args:
        device: The device: a name, a profile's file, or a profile. Its runtime must have an arena and compute in fp32.
        batch: Images of a step; None takes the policy's, or the device's.
        optimizer: sgd or sgd-momentum; None takes the policy's, or the device's.
        learning_rate: What the program begins with; None takes the policy's, or one that suits the optimizer.
        name: What all identifiers begin with; None makes one of the backbone's name.
        images: Images to link in, (N, C, H, W) of bytes; None makes patterns.
        labels: Their classes.
    """

    summary: ClassVar[str] = "C99 that trains on a Cortex-M7: one arena, no heap, a self-test against PyTorch"

    def __init__(
        self,
        *,
        device: DeviceProfile | str = DEVICE,
        batch: int | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        name: str | None = None,
        images: Any | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.profile = load_device(device) if isinstance(device, str) else device
        self.batch, self.optimizer, self.learning_rate = batch, optimizer, learning_rate
        self.name, self.images, self.labels = name, images, labels
        self._predicted: Mapping[str, int] = {}
        _check_profile(self.profile)

    def lacks(self, policy: UpdatePolicy) -> str:
        """Norms on the statistics of a batch of several images: a program has one image at a time."""
        several = self._batch(policy) > 1 and any(norm.statistics for norm in policy.norms)
        return "batch statistics of several images" if several else ""

    def write(self, policy: UpdatePolicy, backbone: "nn.Module", out: Path) -> Sequence[Path]:
        """Write the folder, as README.md in it tells."""
        from .project import Project

        project = Project.of(
            policy,
            backbone,
            self.profile,
            batch=self._batch(policy),
            optimizer=self._stepper(policy),
            learning_rate=self._rate(policy),
            name=self.name,
            images=self.images,
            labels=self.labels,
        )
        project.warn()
        self._predicted = project.predicted
        return project.write(out)

    def predicted(self) -> Mapping[str, int]:
        """Bytes of the program that was written last."""
        return self._predicted

    def _batch(self, policy: UpdatePolicy) -> int:
        if self.batch is not None and not 0 < self.batch <= MOST_IMAGES:
            raise InputError(f"batch is {self.batch}: give 1 to {MOST_IMAGES} images", "batch")
        return self.batch or policy.training.batch or self.profile.batch

    def _stepper(self, policy: UpdatePolicy) -> str:
        chosen = self.optimizer or policy.training.optimizer or self.profile.optimizer
        if chosen not in STEPPERS:
            OPTIMIZERS[chosen]
            raise UnsupportedError(
                f"to=c has no {chosen}: give optimizer={STEPPERS[0]} or {STEPPERS[1]}, and a learning rate for it",
                "to=c",
                f"optimizer={STEPPERS[0]}",
            )
        return chosen

    def _rate(self, policy: UpdatePolicy) -> float:
        if self.learning_rate is not None and not 0 < self.learning_rate < 1e6:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be positive", "learning_rate")
        stepper, tuned = self._stepper(policy), policy.training
        if self.learning_rate is not None:
            return self.learning_rate
        if tuned.learning_rate is not None and tuned.optimizer in (None, stepper):
            return tuned.learning_rate
        return OPTIMIZERS.load(stepper).default_rate


def _check_profile(profile: DeviceProfile) -> None:
    if profile.memory.kind != "arena":
        raise UnsupportedError(
            f"to=c needs a device whose runtime has an arena, which {profile.name} has not: give device={DEVICE}",
            "to=c",
            f"device={DEVICE}",
        )
    if profile.memory.dtypes != Dtypes(activation=4, frozen=4, trained=4, gradient=4):
        raise UnsupportedError(
            f"to=c computes in fp32, and {profile.name} does not: give device={DEVICE}", "to=c", f"device={DEVICE}"
        )
