"""Ground truth: the test accuracy of many policies after full fine-tuning, by the code of `tinysearch finetune`.

Run: python benchmarks/ground_truth/measure.py --policies FILE --weights FILE --data DIR --out DIR [--jobs N]

A cell is a data set with so many images a class. In each, a policy is trained at several rates with several seeds and
measured on the test split; the answers on held-out training images that `finetune` would choose the rate by are kept
beside, and what the few-shot proxy says. What is measured
already, in any `*.jsonl` of the output folder, is passed over, so that the command goes on where it was stopped.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cuda_graph import steps_on
from torch import nn
from workers import run_together

from tinysearch.search.data import load_dataset
from tinysearch.search.data.images import Dataset, Subset
from tinysearch.search.finetune import AUGMENTATIONS
from tinysearch.search.network import load_network
from tinysearch.search.proxies.few_shot import FewShotProxy, reference_of
from tinysearch.search.proxies.settings import FewShotSettings
from tinysearch.search.support import draw_episodes
from tinysearch.search.target import FineTuning, Target
from tinysearch.search.training import Answers, Step
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.trace import Trace

SEEDS = (0, 1)
#: All are measured: how well a policy does at the rate that a user would find can then be worked out for any rule.
RATES = (3e-4, 1e-3, 3e-3)
BATCH = 32
#: Most test images: the first so many of a shuffled split.
TESTED = 2000
#: Passes over the training images, and the fewest and the most steps.
EPOCHS, FEWEST, MOST = 8, 200, 400


@dataclass(frozen=True)
class Cell:
    """A data set with so many images a class."""

    dataset: str
    per_class: int | None

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.per_class or 'all'}"

    def load(self, folder: Path) -> Dataset:
        """The data set, its training split cut to size."""
        arrays = (folder / f"{self.dataset}.npz", folder / self.dataset / f"{self.dataset}.npz")
        path = next((path for path in arrays if path.exists()), None)
        whole = load_dataset(self.dataset, folder) if path is None else load_dataset(str(path))
        if self.per_class is None:
            return whole
        return Dataset(self.name, whole.classes, Subset.balanced(whole.train, self.per_class), whole.test, whole.source)


CELLS = (
    Cell("cifar10", 20),
    Cell("gtsrb", None),
    Cell("dtd10", 20),
    Cell("cifar10", None),
    Cell("gtsrb", 20),
    Cell("dtd10", None),
    Cell("imagenette", 20),
)


def steps_of(images: int) -> int:
    """Optimizer steps for so many training images."""
    return min(max(EPOCHS * images // BATCH, FEWEST), MOST)


def work(options: argparse.Namespace, number: int) -> None:
    """Measure every `jobs`-th policy of every cell, the cells one after another."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    make_step = steps_on(options.device)
    entries = [json.loads(line) for line in options.policies.read_text().splitlines()]
    done = {
        (record["cell"], record["hash"], record["augmentation"])
        for path in options.out.glob("*.jsonl")
        for record in map(json.loads, path.read_text().splitlines())
    }
    with (options.out / f"{options.device}-{number}.jsonl").open("a") as file:
        for cell in (cell for cell in CELLS if not options.cells or cell.name in options.cells):
            target = proxy = None
            for entry in entries[number :: options.jobs]:
                policy = UpdatePolicy.from_json(json.dumps(entry["policy"]))
                if (cell.name, policy.hash, options.augmentation) in done:
                    continue
                if time.time() > options.deadline:
                    return
                if target is None or proxy is None:
                    dataset, backbone, trace = load(cell, policy, options)
                    target = make_target(dataset, backbone, policy, options)
                    proxy = make_proxy(dataset, backbone, trace, policy, make_step)
                record = measure(target, policy, proxy, options, make_step)
                known = {"cell": cell.name, "hash": policy.hash, "names": entry["names"]}
                file.write(json.dumps(known | record) + "\n")
                file.flush()


def load(cell: Cell, policy: UpdatePolicy, options: argparse.Namespace) -> tuple[Dataset, nn.Module, Trace]:
    """A cell's data, and the backbone on the device with its trace."""
    dataset = cell.load(options.data)
    backbone, trace = load_network(
        options.backbone, classes=len(dataset.classes), weights=options.weights, input_size=policy.input_shape[1]
    )
    return dataset, backbone.to(options.device), trace


def make_target(dataset: Dataset, backbone: nn.Module, policy: UpdatePolicy, options: argparse.Namespace) -> Target:
    """What policies are fine-tuned for."""
    augmentation = AUGMENTATIONS[options.augmentation]
    size = policy.input_shape[1]
    return Target(backbone, policy.head, dataset, size, test_images=TESTED, augmentation=augmentation)


def make_proxy(
    dataset: Dataset, backbone: nn.Module, trace: Trace, policy: UpdatePolicy, make_step: type[Step]
) -> FewShotProxy:
    """The few-shot proxy, as a search asks it."""
    settings = FewShotSettings()
    episodes = draw_episodes(dataset.train, settings, size=policy.input_shape[1], seed=0, number=0)
    return FewShotProxy(backbone, policy.head, episodes, settings, reference_of(trace), make_step=make_step)


def measure(
    target: Target, policy: UpdatePolicy, proxy: FewShotProxy, options: argparse.Namespace, make_step: type[Step]
) -> dict:
    """What training a policy gives, and what it took."""
    start = time.perf_counter()
    steps = steps_of(len(target.train))
    tuning = FineTuning(target, policy, BATCH, make_step=make_step)
    race = {rate: tuning.attempt(rate, steps) for rate in RATES}
    trained = {rate: [tuning.train(rate, steps, seed) for seed in SEEDS] for rate in RATES}
    seconds = time.perf_counter() - start
    try:
        score = proxy(policy)
        few_shot = {
            "accuracy": round(score.accuracy, 5),
            "accuracy_se": round(score.accuracy_se, 5),
            "loss": round(score.loss, 5),
            "learning_rate": score.learning_rate,
            "queries": len(score.answers),
            "seconds": round(score.seconds, 2),
            "answers": np.packbits(np.frombuffer(score.answers, np.uint8)).tobytes().hex(),
        }
    except FloatingPointError as error:
        few_shot = {"error": str(error)}
    return {
        "augmentation": options.augmentation,
        "optimizer": policy.training.stepper.name,
        "steps": steps,
        "batch": BATCH,
        "train_images": len(target.train),
        "test_images": len(target.test),
        "race": {f"{rate:g}": told([answers]) for rate, answers in race.items()},
        "trained": {f"{rate:g}": told(answers) for rate, answers in trained.items()},
        "few_shot": few_shot,
        "seconds": round(seconds, 2),
    }


def told(answers: list[Answers]) -> dict[str, list[float]]:
    """Accuracies and losses."""
    return {
        "accuracy": [round(each.accuracy, 5) for each in answers],
        "loss": [round(each.loss, 5) for each in answers],
    }


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=Path, required=True, help="a policy a line, as policies.py writes them")
    parser.add_argument("--backbone", default="mobilenetv2-w0.35-tf")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no policy after so long")
    parser.add_argument("--augmentation", default="none", choices=AUGMENTATIONS)
    parser.add_argument("--cells", nargs="*", default=[])
    options = parser.parse_args()
    options.deadline = time.time() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    if not run_together(work, [(options, number) for number in range(options.jobs)]):
        raise SystemExit("a worker failed: what is finished is kept")


if __name__ == "__main__":
    main()
