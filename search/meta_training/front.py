"""Meta-training from a backbone's name and a source to a file of weights."""

import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from ...core.errors import InputError
from ...spaces.backbones.info import Normalisation
from ...spaces.backbones.weights_file import WeightsHeader, check_weights_path, write_weights
from ...spaces.engine.origin import base_digest
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.trace import Trace
from ..data import Dataset, load_dataset
from ..data.images import normalisation_of
from ..finetune import AUGMENTATIONS
from ..network import load_network
from ..request import LARGEST, SMALLEST
from ..threads import one_thread
from .course import Course, Observer, Progress, best_of
from .protonet import Judgement, ProtoNet
from .source import Source, TaskSizes
from .state import StateFile


@dataclass(frozen=True)
class MetaTrained:
    """What a meta-training gave.

    Attributes:
        path: The weights that were written.
        judgements: How well the network did in the tasks of what was held out, before the first episode and after
            every tenth of them.
        kept: The best of these, whose weights were written. Chosen by the same tasks, it is a little too high.
        held_out: What was held out, in words.
        learning_rate: The highest rate.
        seconds: Wall time of this call.
    """

    path: Path
    judgements: tuple[Judgement, ...]
    kept: Judgement
    held_out: str
    learning_rate: float
    seconds: float

    @property
    def gain(self) -> float:
        """Accuracy of what was kept, less that before."""
        return self.kept.accuracy - self.judgements[0].accuracy

    @property
    def gain_se(self) -> float:
        """Its standard error over tasks."""
        return self.kept.gain_se(self.judgements[0])


def meta_train(
    backbone: str,
    source: str | Path | Dataset,
    out: str | Path,
    *,
    weights: str | None = None,
    data_dir: str | Path | None = None,
    input_size: int | None = None,
    episodes: int = 400,
    way: int = 10,
    shot: int = 10,
    queries: int = 10,
    optimizer: str = "adam",
    learning_rate: float | None = None,
    augmentation: str = "shift",
    seed: int = 0,
    progress: Observer | None = None,
) -> MetaTrained:
    """Train a pretrained backbone on few-shot tasks of a source set, so that its features suit tasks of few images.

    This is TinyTrain's offline stage (Kwon et al. 2024, section 3.1): a prototypical network (Snell et al. 2017) on
    top of what is pretrained (Hu et al. 2022). Everything below the head trains, on frozen statistics of the norms.
    Tasks of held-out classes (or images, where classes are few) judge it before, meanwhile and after; the best state
    is written, which may be the one before. Only the source's training split is used. A call that was stopped goes on
    from `<out>.state`, to the same weights.

    Args:
        backbone: The backbone's name, `timm:NAME`, `torchvision:NAME` or `package.module:function`.
        source: A data set, its name, or the path of class folders, of an archive of them, or of a `.npz`.
        out: The `.safetensors` or `.pth` file to write; `load_backbone(weights=...)` takes it.
        weights: What to begin with: `bundled`, `imagenet` or a file; None takes what is published.
        data_dir: Folder where named data sets lie.
        input_size: Side of the images in pixels; None takes the weights' own, or 96 if that is less.
        episodes: Tasks to learn from, each once.
        way: Most classes of a task; each has from 5, or all if there are fewer, up to so many.
        shot: Most support images of a class; each task has from 1 up to so many.
        queries: Query images of a class.
        optimizer: Name of the optimizer.
        learning_rate: The highest rate; None finds it by a quarter of the episodes each.
        augmentation: How images to learn from are varied, as of `finetune`.
        seed: Seed of what is held out, of tasks and of augmentation.
        progress: Is told where it stands.

    Raises:
        InputError: A name, number or file is wrong, the source has too few classes or images, or training diverged.
        MissingDataError: Data or weights are missing.
        ConflictError: What was stopped was asked for something else.
        UnsupportedError: The backbone cannot be traced, or has no weights below its head.

    Example:
        >>> import tinysearch as ts
        >>> small = {"episodes": 2, "way": 5, "shot": 2, "queries": 2, "input_size": 32, "learning_rate": 1e-4}
        >>> done = ts.meta_train("mobilenetv2-w0.35", "digits", "m.safetensors", **small)
        >>> len(done.kept.accuracies), done.held_out
        (40, '3 of 10 classes')
        >>> ts.load_backbone("mobilenetv2-w0.35", weights="m.safetensors").input_size
        32
    """
    begun = time.perf_counter()
    path = Path(out)
    check_weights_path(path)
    _check(episodes, learning_rate, augmentation, seed, input_size)
    sizes = TaskSizes(way, shot, queries)
    stepper = OPTIMIZERS.load(optimizer)
    dataset = source if isinstance(source, Dataset) else load_dataset(str(source), _folder(data_dir))
    network, trace = load_network(backbone, classes=len(dataset.classes), weights=weights, input_size=input_size)
    size = trace.input_shape[1]
    request = {
        "backbone": trace.name,
        "weights": base_digest(network, trace.layers[trace.head].name),
        "source": f"{dataset.name}, {len(dataset.train)} images of {len(dataset.classes)} classes",
        "labels_sha256": hashlib.sha256(dataset.train.labels.tobytes()).hexdigest(),
        "input_size": str(size),
        "episodes": str(episodes),
        **{name: str(value) for name, value in asdict(sizes).items()},
        "optimizer": stepper.name,
        "learning_rate": "found" if learning_rate is None else f"{learning_rate:g}",
        "augmentation": augmentation,
        "seed": str(seed),
    }
    file = StateFile(path, request)
    state = file.load()
    with one_thread():
        parts = Source.of(dataset, size, normalisation_of(network), AUGMENTATIONS[augmentation], sizes, seed)
        course = Course(ProtoNet(network, trace), parts, stepper, episodes, progress or _tell_nobody)
        rate = state.learning_rate if state is not None else learning_rate or course.find_rate()
        judgements, best = course.run(rate, file, state)
    kept = best_of(judgements)
    origin = request | {
        "made_by": "tinysearch meta-train",
        "weights": Path(weights).name if weights else "published",
        "weights_sha256": request["weights"],
        "learning_rate": f"{rate:g}",
        "kept": f"after {kept.episode} episodes",
        "held_out": parts.held_out,
        "accuracy_before": f"{judgements[0].accuracy:.4f}",
        "accuracy_kept": f"{kept.accuracy:.4f}",
    }
    write_weights(path, _weights(network, trace, best), _header(network, size, origin))
    file.remove()
    seconds = time.perf_counter() - begun
    return MetaTrained(path, tuple(judgements), kept, parts.held_out, rate, seconds)


def _check(episodes: int, learning_rate: float | None, augmentation: str, seed: int, input_size: int | None) -> None:
    if input_size is not None and not SMALLEST <= input_size <= LARGEST:
        raise InputError(
            f"meta_train: input_size is {input_size}: it must be from {SMALLEST} to {LARGEST}", "input_size"
        )
    if episodes < 1:
        raise InputError(f"meta_train: episodes is {episodes}: it must be at least 1", "episodes")
    if seed < 0:
        raise InputError(f"meta_train: seed is {seed}: it must be at least 0", "seed")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"meta_train: learning_rate is {learning_rate}: it must be positive", "learning_rate")
    if augmentation not in AUGMENTATIONS:
        raise InputError(f"meta_train: augmentation is {augmentation!r}: there are {', '.join(AUGMENTATIONS)}")


def _folder(data_dir: str | Path | None) -> Path | None:
    return None if data_dir is None else Path(data_dir)


def _tell_nobody(progress: Progress) -> None:
    pass


def _weights(network: nn.Module, trace: Trace, trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors with what was trained in their place, and without its head."""
    head = f"{trace.layers[trace.head].name}."
    state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    return {name: trained.get(name, value) for name, value in state.items() if not name.startswith(head)}


def _header(network: nn.Module, size: int, origin: dict[str, str]) -> WeightsHeader:
    mean, std = normalisation_of(network)
    return WeightsHeader(
        backbone=str(network.backbone_name),
        input_size=size,
        normalisation=Normalisation(mean, std),  # type: ignore[arg-type]
        origin=origin,
    )
