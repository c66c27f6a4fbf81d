"""A request with everything that it names loaded: what a search is about."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..core.errors import BudgetError, InputError
from ..core.units import format_bytes, format_joules, format_seconds
from ..devices.costs import Costs, cost_table, planned_costs
from ..devices.profile import DeviceProfile, load_device
from ..devices.step.plan import find_areas
from ..results.front import Front
from ..results.records import RunInfo, TrialRecord
from ..spaces import methods
from ..spaces.backbones import backbone_info, load_backbone
from ..spaces.policy import UpdatePolicy
from ..spaces.space import UpdateSpace
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace, trace
from .data import Dataset, load_dataset
from .data.episodes import sample_episodes
from .engine import Limits
from .proxies.few_shot import FewShotProxy
from .request import DEFAULT_BACKBONE, ProxySettings, Request

#: Largest side of images unless the user asks for more, in pixels: what small devices can train on.
MAX_DEFAULT_SIZE = 96


@dataclass(frozen=True)
class Task:
    """A request with everything that it names loaded.

    Attributes:
        request: What was asked.
        device: The device's profile.
        dataset: The target.
        backbone: The pretrained network, with a head for the target's classes.
        trace: The backbone at the request's input size.
        space: Its policies.
        limits: What a step may cost.
        batch: Samples of a step on the device.
    """

    request: Request
    device: DeviceProfile
    dataset: Dataset
    backbone: nn.Module
    trace: Trace
    space: UpdateSpace
    limits: Limits
    batch: int

    def cost(self, table: UpdateTable) -> Costs:
        """What the policies of a table cost on the device."""
        return cost_table(table, self.device, batch=self.batch)

    def exact(self, table: UpdateTable) -> Costs:
        """As `cost`, but on an arena device the memory is that of a plan: for the few that are to be trained."""
        return planned_costs(table, self.device, batch=self.batch)

    def on_device(self, policy: UpdatePolicy) -> UpdatePolicy:
        """The policy with the device's optimizer, which it is tried with, and its batch, which it is priced at.

        The proxy takes a batch of its own: where statistics are frozen, a device gets the same gradient by adding up
        smaller batches.
        """
        return policy.with_training(optimizer=self.device.optimizer, batch=self.batch)


def prepare(request: Request) -> Task:
    """Load what a request names, and refuse a budget that nothing fits.

    Raises:
        InputError: A name or file is wrong.
        MissingDataError: Data or weights are missing.
        BudgetError: No policy fits; the smallest one and what it needs are named.
    """
    device = load_device(request.device)
    dataset = load_dataset(request.dataset, request.data_dir)
    backbone = load_backbone(
        request.backbone,
        num_classes=len(dataset.classes),
        input_size=request.input_size,
        weights=requested_weights(request),
    )
    size = image_size(request, backbone)
    table = trace(backbone, (3, size, size))
    limits = Limits(
        peak_bytes=request.max_memory or device.memory.budget.value,
        flash_bytes=device.flash.capacity.value,
        latency_s=request.max_latency,
        energy_j=request.max_energy,
    )
    batch = request.batch or device.batch
    task = Task(request, device, dataset, backbone, table, UpdateSpace(table), limits, batch)
    _check_budget(task)
    return task


def front_of(task: Task, trials: Sequence[TrialRecord]) -> Front:
    """The front of some trials; hypervolume is measured from chance and from the costs of full fine-tuning."""
    full = task.cost(UpdateTable.of(task.trace, [methods.full(task.trace)]))
    proxy = task.request.proxy
    info = RunInfo(
        device=task.device.name,
        dataset=task.dataset.name,
        backbone=task.trace.name,
        batch=task.batch,
        proxy=f"{proxy.name}, {proxy.episodes} episode(s), {proxy.shot} shot, {proxy.steps} steps",
        seed=task.request.seed,
        trials=len(trials),
        latency_error=full.latency_error,
    )
    return Front.from_trials(
        trials,
        info,
        reference_point={
            "accuracy": 1 / len(task.dataset.classes),
            "peak_bytes": float(full.peak_bytes[0]),
            "latency_s": float(full.latency_s[0]),
        },
        ideal_point={"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0},
    )


def make_proxy(task: Task) -> Callable[[], FewShotProxy]:
    """A picklable function that makes the request's proxy, its episodes drawn from the training split alone."""
    settings = task.request.proxy
    head = task.trace.layers[task.trace.head].name
    train = task.dataset.train
    episodes = sample_episodes(
        train,
        episodes=settings.episodes,
        shot=settings.shot,
        queries=_queries(settings, train.labels),
        size=task.trace.input_shape[1],
        seed=task.request.seed,
    )
    return partial(FewShotProxy, task.backbone, head, episodes, settings, task.request.seed)


def seeds_of(task: Task, proxy: FewShotProxy) -> list[UpdatePolicy]:
    """The published methods on this task, the cheapest first."""
    policies = list(methods.named(task.trace).values())
    policies.append(methods.tinytrain(task.trace, *proxy.support_task()))
    costs = task.cost(UpdateTable.of(task.trace, policies))
    return [task.on_device(policies[n]) for n in costs.peak_bytes.argsort(kind="stable")]


def _queries(settings: ProxySettings, labels: npt.NDArray[np.int64]) -> int:
    """Validation and query images of an episode: those asked for, or what the support leaves, a third at least."""
    counts = np.unique_counts(labels).counts
    left = np.maximum(np.maximum(counts - settings.shot, counts // 3), 1)
    return min(settings.queries + settings.validation, int(left.sum()))


def image_size(request: Request, backbone: nn.Module) -> int:
    """Side of the images: what was asked for, or the weights' own, but at most `MAX_DEFAULT_SIZE`."""
    return request.input_size or min(MAX_DEFAULT_SIZE, int(backbone.input_size))  # type: ignore[arg-type]


def default_weights(backbone: str) -> str | None:
    """What is published for a backbone: `bundled`, `imagenet`, or None.

    Raises:
        InputError: There is no such backbone.
    """
    published = backbone_info(backbone).weights
    return next((name for name in ("bundled", "imagenet") if name in published), None)


def requested_weights(request: Request) -> str | None:
    """What was asked for, or what is published for the backbone; None for random weights.

    Raises:
        InputError: Nothing is published and nothing was asked for.
    """
    if request.weights == "none":
        return None
    weights = request.weights or default_weights(request.backbone)
    if weights is None:
        raise InputError(
            f"no weights are published for {request.backbone}: give --weights FILE, or --weights none for random ones "
            f"(the default backbone, {DEFAULT_BACKBONE}, brings its own)"
        )
    return weights


def identity(task: Task) -> dict[str, Any]:
    """What decides a run's outcome. How long it may go on does not: a finished run can be taken further."""
    request = task.request
    content = request.model_dump(mode="json", exclude={"trials", "time_budget", "data_dir", "weights"})
    digest = hashlib.sha256()
    for name, tensor in sorted(task.backbone.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content | {
        "input_size": task.trace.input_shape[1],
        "batch": task.batch,
        "weights": request.weights or default_weights(request.backbone),
        "backbone_sha256": digest.hexdigest(),
        "train_images": len(task.dataset.train),
        "train_labels_sha256": hashlib.sha256(task.dataset.train.labels.tobytes()).hexdigest(),
        "device_sha256": hashlib.sha256(task.device.model_dump_json().encode()).hexdigest(),
    }


def _check_budget(task: Task) -> None:
    least = task.exact(UpdateTable.frozen(task.trace, 1))
    limits, arena = task.limits, task.device.memory.kind == "arena"
    capacity = find_areas(task.device)[0].size if arena else task.device.memory.capacity.value
    if limits.peak_bytes is not None and limits.peak_bytes > capacity:
        raise InputError(
            f"--max-memory {format_bytes(limits.peak_bytes)} is more than the {format_bytes(capacity)} of RAM that "
            f"{task.device.name} has{' in one piece' if arena else ''}"
        )
    for name, label, show, advice in (
        ("peak_bytes", "memory", format_bytes, f"raise --max-memory (RAM: {format_bytes(capacity)})"),
        ("flash_bytes", "flash", format_bytes, "take a device with more flash"),
        ("latency_s", "a step", format_seconds, "raise --max-latency"),
        ("energy_j", "energy a step", format_joules, "raise --max-energy"),
    ):
        most, need = getattr(limits, name), float(getattr(least, name)[0])
        if most is not None and need > most:
            shape = "x".join(str(side) for side in task.trace.input_shape[1:])
            raise BudgetError(
                f"nothing fits {show(most)} of {label} on {task.device.name}: the smallest policy (head only) of "
                f"{task.trace.name} at {shape}, batch {task.batch}, needs {show(need)}: {advice}, or take a "
                "smaller --input-size, --batch or --backbone"
            )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread meanwhile: the small operations of these networks gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
