"""What meta-training does for few-shot fine-tuning on a device, method by method.

Run: OMP_NUM_THREADS=1 python benchmarks/meta_train.py --data DIR --keep DIR [--source NAME] [--targets NAME ...]

A backbone (MobileNetV2 0.35 with ImageNet weights at 96 px, unless stated) as it is, and after `ts.meta_train` on the
source's training split. Each is fine-tuned in few-shot tasks of a target that neither has seen: 5 classes drawn by
chance, 5 support images each out of 20 of the target's training split, 15 queries each of its test split; Adam, all
support images in each step, from a head of class prototypes. The same tasks for all, so differences are paired: behind
+- is the standard error over tasks. All methods of a target are trained at one rate, with and without meta-training
each at its own, which the policy of three trained blocks finds in tasks of its own whose queries are training images.
"no training" is that first head.

Weights and single results are kept in a folder: what is there is not done again.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import fx, nn

import tinysearch as ts
from tinysearch.search.data.episodes import draw_task
from tinysearch.search.data.images import Dataset, ImageSplit, Subset, as_input, normalisation_of
from tinysearch.search.network import load_network
from tinysearch.search.proxies.classifier import Head, set_head
from tinysearch.search.proxies.prototypes import FrozenBackbone
from tinysearch.search.rates import best_rate
from tinysearch.search.training import Answers, Features, Recipe, Start, answer, fit
from tinysearch.spaces.engine.apply import assemble
from tinysearch.spaces.engine.split import frozen_boundary, suffix
from tinysearch.spaces.optimizers import ADAM
from tinysearch.spaces.policy import UpdatePolicy

WEIGHTS = "weights/mobilenetv2_w0.35_224_notop.pth"
METHODS = ("last", "bias", "tinytl-L+B", "sparse-update-2", "tinytrain", "mobiletl-3", "full")
#: The head of class prototypes as it is, and what finds the rate of all.
NOTHING = "no training"
REFERENCE = "mobiletl-3"
PER_CLASS, WAY, SHOT, QUERIES = 20, 5, 5, 15
#: Tasks that the rate is found in.
TUNING = 8


@dataclass(frozen=True)
class FewShot:
    """A task: images as the backbone wants them, and classes from 0 to way - 1."""

    support: Features
    query: Features


def load(name: str, data: Path) -> Dataset:
    """A data set by name, from a `.npz` where there is one."""
    arrays = data / name / f"{name}.npz"
    return ts.load_dataset(str(arrays)) if arrays.exists() else ts.load_dataset(name, data)


def draw(dataset: Dataset, number: int, network: nn.Module, size: int, *, tuning: bool) -> FewShot:
    """A task of a target; those for tuning take their queries from the training split, too."""
    train = Subset.balanced(dataset.train, PER_CLASS)
    seed = 1 if tuning else 0
    task = draw_task(train.labels, shot=SHOT, queries=WAY * QUERIES, seed=seed, number=number, way=WAY)
    asked, query = train, task.query
    if not tuning:
        rng = np.random.default_rng([seed, number, 1])
        asked = dataset.test
        members = (np.flatnonzero(asked.labels == label) for label in task.class_ids)
        query = np.concatenate([rng.permutation(own)[:QUERIES] for own in members])

    def features(split: ImageSplit, chosen: np.ndarray) -> Features:
        labels = torch.from_numpy(np.searchsorted(task.class_ids, split.labels[chosen]))
        return Features(as_input(split.load(chosen, size), normalisation_of(network)), labels)

    return FewShot(features(train, task.support), features(asked, query))


class Student(NamedTuple):
    """What of a network trains under a policy: the part from where training begins, if not at the images."""

    boundary: str | None
    model: fx.GraphModule
    start: Start


class Learner:
    """A pretrained network that is fine-tuned in one task after another."""

    def __init__(self, weights: Path, options: argparse.Namespace) -> None:
        self.network, self.trace = load_network(
            options.backbone, classes=WAY, weights=str(weights), input_size=options.input_size
        )
        self._head = self.trace.layers[self.trace.head].name
        self._frozen = FrozenBackbone(self.network, self._head, self.trace.input_shape)
        self._steps = options.steps
        self._policies = ts.methods.named(self.trace)
        self._students: dict[str, Student] = {}

    def accuracy(self, method: str, task: FewShot, rate: float) -> float:
        """Share of the queries that are answered right after fine-tuning, or after none."""
        if method == NOTHING:
            return answer(set_head(self._frozen.module, self._head, self._prototypes(task)), task.query).accuracy
        return self.learn(method, task, rate).accuracy

    def learn(self, method: str, task: FewShot, rate: float) -> Answers:
        """Fine-tune, and answer the queries."""
        student = self._student(method, task)
        parts = [task.support.values, task.query.values]
        if student.boundary is not None:
            parts = self._frozen.features(student.boundary, parts)
        student.start.restore()
        set_head(student.model, self._head, self._prototypes(task))
        support, query = (Features(v, part.labels) for v, part in zip(parts, (task.support, task.query), strict=True))
        fit(student.model, support, ADAM, Recipe(self._steps, len(support), rate))
        return answer(student.model, query)

    def _student(self, method: str, task: FewShot) -> Student:
        """What a method trains; `tinytrain` chooses anew for each task."""
        if method == "tinytrain":
            model = set_head(deepcopy(self._frozen.module), self._head, self._prototypes(task))
            return self._make(ts.methods.tinytrain(self.trace, model, task.support.values, task.support.labels))
        if method not in self._students:
            self._students[method] = self._make(self._policies[method])
        return self._students[method]

    def _make(self, policy: UpdatePolicy) -> Student:
        model = assemble(self._frozen.module, policy)
        boundary = frozen_boundary(model)
        part = model if boundary is None else suffix(model, boundary)
        return Student(boundary, part, Start(part))

    def _prototypes(self, task: FewShot) -> Head:
        return self._frozen.prototypes(task.support.values, task.support.labels)


class Results:
    """Values that are kept in a file, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._values = {tuple(key): value for key, value in map(json.loads, lines)}

    def get(self, key: tuple[str | int, ...], compute: Callable[[], float]) -> float:
        """The value that is kept, or else what is computed now."""
        if key not in self._values:
            self._values[key] = compute()
            with self._path.open("a") as file:
                file.write(json.dumps([key, self._values[key]]) + "\n")
        return self._values[key]


def start_of(options: argparse.Namespace) -> Path:
    """The pretrained weights."""
    return Path(options.weights or options.data / WEIGHTS)


def meta_trained(options: argparse.Namespace) -> Path:
    """The weights after meta-training."""
    path: Path = options.keep / f"{Path(options.source).stem}-{options.meta_episodes}.safetensors"
    if not path.exists():
        done = ts.meta_train(
            options.backbone,
            load(options.source, options.data),
            path,
            weights=str(start_of(options)),
            input_size=options.input_size,
            episodes=options.meta_episodes,
            shot=SHOT,
            queries=SHOT,
            learning_rate=options.meta_rate,
            augmentation="shift+flip",
            progress=lambda told: print(told.learning_rate, told.judgement.episode, f"{told.judgement.accuracy:.3f}"),
        )
        print(
            f"{options.source}: {done.held_out} held out, accuracy {done.judgements[0].accuracy:.3f} before, "
            f"{done.kept.accuracy:.3f} after {done.kept.episode} episodes, +{done.gain:.3f} +- {done.gain_se:.3f}; "
            f"rate {done.learning_rate:g}, {done.seconds:.0f} s\n"
        )
    return path


class Comparison:
    """Accuracies of all methods on a target, from one start or another."""

    def __init__(self, target: str, weights: dict[str, Path], options: argparse.Namespace, results: Results) -> None:
        self._dataset, self._size = load(target, options.data), options.input_size
        self._results = results
        self._learners = {name: Learner(path, options) for name, path in weights.items()}
        self._where = {name: (target, path.stem, options.steps) for name, path in weights.items()}
        self.rates = {name: results.get((*self._where[name], "rate"), partial(self._rate, name)) for name in weights}
        self.accuracies: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in weights}

    def add(self, number: int) -> None:
        """Try all in a task."""
        task = draw(self._dataset, number, next(iter(self._learners.values())).network, self._size, tuning=False)
        for start, learner in self._learners.items():
            for method in (NOTHING, *METHODS):
                learn = partial(learner.accuracy, method, task, self.rates[start])
                accuracy = self._results.get((*self._where[start], method, number), learn)
                self.accuracies[start][method].append(accuracy)

    def _rate(self, start: str) -> float:
        learner = self._learners[start]
        tasks = [draw(self._dataset, number, learner.network, self._size, tuning=True) for number in range(TUNING)]
        return best_rate(ADAM, lambda rate: Answers.of_all([learner.learn(REFERENCE, task, rate) for task in tasks]))

    def table(self) -> str:
        """The accuracies as Markdown, in percent."""
        plain, *others = self.accuracies
        lines = ["| method | " + " | ".join([plain, *(f"{x} | difference" for x in others)]) + " |"]
        lines.append("| --- |" + " ---: |" * (1 + 2 * len(others)))
        for method in (NOTHING, *METHODS):
            lines.append(self._line(method, [values[method] for values in self.accuracies.values()]))
        means = [np.mean([values[method] for method in METHODS], axis=0) for values in self.accuracies.values()]
        lines.append(self._line("mean of the methods", means))
        return "\n".join(lines)

    def _line(self, name: str, columns: Sequence[Sequence[float]]) -> str:
        plain, *others = (100 * np.asarray(values) for values in columns)
        cells = [told(plain)]
        for other in others:
            cells += [told(other), told(other - plain, sign="+")]
        return f"| {name} | " + " | ".join(cells) + " |"


def told(values: np.ndarray, sign: str = "") -> str:
    """A mean over tasks and its standard error."""
    return f"{values.mean():{sign}.1f} ± {values.std(ddof=1) / len(values) ** 0.5:.1f}"


def main() -> None:
    """Print a table for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="folder for weights and single results")
    parser.add_argument("--backbone", default="mobilenetv2-w0.35-tf")
    parser.add_argument("--weights", type=Path, help=f"pretrained weights; DATA/{WEIGHTS} unless stated")
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--source", default="imagenette")
    parser.add_argument("--targets", nargs="+", default=["dtd10", "gtsrb"])
    parser.add_argument("--meta-episodes", type=int, default=150)
    parser.add_argument("--meta-rate", type=float, default=1e-4, help="highest learning rate of meta-training")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a fine-tuning")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    results = Results(options.keep / "results.jsonl")
    weights = {"without": start_of(options), f"with, {Path(options.source).stem}": meta_trained(options)}
    comparisons = {target: Comparison(target, weights, options, results) for target in options.targets}
    for number in range(options.tasks):
        for comparison in comparisons.values():
            comparison.add(number)
    for target, comparison in comparisons.items():
        rates = ", ".join(f"{rate:g} {name}" for name, rate in comparison.rates.items())
        print(f"**{target}**: {options.tasks} tasks, {options.steps} steps; rates {rates}\n\n{comparison.table()}\n")


if __name__ == "__main__":
    main()
