"""Ground truth: the test accuracy of many policies after full fine-tuning, as `tinysearch finetune` trains.

Run: python benchmarks/ground_truth/measure.py --weights FILE --data DIR --out DIR [--device cuda --jobs N --lanes N]

A cell is a data set with so many images a class. In each, a policy is trained at several rates with several seeds and
measured on the test split; the answers on held-out training images that `finetune` would choose the rate by are kept
beside, and what the few-shot proxy says. What the table of the package has, or any `*.jsonl` of the output folder, is
passed over, so that the command goes on where it was stopped; `store.py` puts what it wrote into the table.
"""

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from cuda_graph import keep_whole_masks, steps_on
from torch import Tensor, nn
from trainings import Schedule, Trainer, Work, answers, side_by_side
from workers import run_together

from tinysearch.search.data import load_dataset
from tinysearch.search.data.images import Dataset, Subset
from tinysearch.search.data.pictures import Pictures
from tinysearch.search.ground_truth.records import TableRecord, read
from tinysearch.search.network import load_network
from tinysearch.search.proxies import few_shot
from tinysearch.search.proxies.classifier import set_head
from tinysearch.search.proxies.few_shot import FewShotProxy, reference_of
from tinysearch.search.proxies.settings import FewShotSettings
from tinysearch.search.support import draw_episodes
from tinysearch.search.target import RACE, Target
from tinysearch.search.training import Features
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.trace import Trace

SEEDS = (0, 1, 2)
#: All are measured: how well a policy does at the rate that a user would find can then be worked out for any rule.
RATES = (3e-4, 1e-3, 3e-3)
BATCH = 32
#: Most test images: the first so many of a shuffled split.
TESTED = 2000
#: Bytes of frozen activations that each process keeps for the few-shot proxy, as all share a GPU's memory.
CACHE_BYTES = 2**28
#: Passes over the training images, and the fewest and the most steps.
EPOCHS, FEWEST, MOST = 8, 200, 400


@dataclass(frozen=True)
class Cell:
    """A data set with so many images a class, and the rates that policies are trained at."""

    dataset: str
    per_class: int | None
    rates: tuple[float, ...] = RATES

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


#: Signs are far from what the network has seen: most policies need a higher rate there.
CELLS = (
    Cell("dtd10", 20),
    Cell("cifar10", 20),
    Cell("gtsrb", None, (*RATES, 1e-2)),
    Cell("imagenette", 20),
    Cell("gtsrb", 20, (*RATES, 1e-2)),
    Cell("dtd10", None),
    Cell("cifar10", None),
)


def steps_of(images: int) -> int:
    """Optimizer steps for so many training images."""
    return min(max(EPOCHS * images // BATCH, FEWEST), MOST)


class Job(NamedTuple):
    """A policy of a cell, and what of it is missing."""

    cell: Cell
    policy: UpdatePolicy
    names: list[str]
    #: Rates that held-out images are to judge, and rates and seeds to train with in full.
    race: list[float]
    trained: list[tuple[float, int]]
    few_shot: bool


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """What is missing, cell by cell."""
    table = read()
    entries = [(list(entry.names), entry.policy) for entry in table.policies]
    if options.policies:
        stated = map(json.loads, options.policies.read_text().splitlines())
        entries = [(entry["names"], entry["policy"]) for entry in stated]
    policies = [(names, UpdatePolicy.from_dict(content, names[0])) for names, content in entries]
    known = known_of(table)
    for path in options.out.glob("*.jsonl"):
        for record in map(json.loads, path.read_text().splitlines()):
            have = known.setdefault((record["cell"], record["hash"]), set())
            have |= {("race", float(rate)) for rate in record["race"]}
            have |= {(float(rate), int(seed)) for rate, seeds in record["trained"].items() for seed in seeds}
            have |= {"few-shot"} if record["few_shot"] else set()
    found = []
    for cell in (cell for cell in CELLS if not options.cells or cell.name in options.cells):
        # First those that are compared with each other, should the time end.
        own = f"found-{cell.dataset}-rpi4@"
        others = ("random-", "front-", "found-")
        for names, policy in sorted(
            policies, key=lambda each: not each[0][0].startswith(own) and each[0][0].startswith(others)
        )[: options.first]:
            have = known.get((cell.name, policy.hash), set())
            if options.few_shot:
                have -= {"few-shot, as it was"}
            race = [rate for rate in cell.rates if ("race", rate) not in have]
            trained = [(rate, seed) for rate in cell.rates for seed in options.seeds if (rate, seed) not in have]
            asked = not have & {"few-shot", "few-shot, as it was"}
            if race or trained or asked:
                found.append(Job(cell, policy, names, race, trained, asked))
    return found


def known_of(table: TableRecord) -> dict[tuple[str, str], set[Any]]:
    """What a table has, by cell and hash of the policy."""
    known: dict[tuple[str, str], set[Any]] = {}
    for cell in table.cells:
        for number, accuracies in zip(cell.policies, cell.accuracy, strict=True):
            have = known.setdefault((cell.name, table.policies[number].policy["hash"]), {"few-shot, as it was"})
            for rate, seeds in zip(cell.learning_rates or table.learning_rates, accuracies, strict=True):
                have |= {("race", rate), *((rate, seed) for seed, _ in zip(table.seeds, seeds, strict=False))}
    return known


def work(options: argparse.Namespace, number: int, taken: Any) -> None:
    """Do jobs, each process the next that none has taken."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    few_shot.CACHE_BYTES = CACHE_BYTES
    if options.device == "cuda":
        keep_whole_masks()
    desk = lru_cache(maxsize=2)(lambda cell, size: Desk(cell, size, options))
    jobs = jobs_of(options)

    def works() -> Iterator[Work[dict[str, Any]]]:
        while time.time() < options.deadline:
            with taken.get_lock():
                place, taken.value = taken.value, taken.value + 1
            if place >= len(jobs):
                return
            yield measure(desk(jobs[place].cell, jobs[place].policy.input_shape[1]), jobs[place])

    with (options.out / f"{options.device}-{number}-{int(time.time())}.jsonl").open("a") as file:
        for record in side_by_side(works(), options.lanes, options.device, options.jobs):
            file.write(json.dumps(record) + "\n")
            file.flush()


class Desk:
    """A cell on a device: its images, lying ready, and the few-shot proxy as a search asks it."""

    def __init__(self, cell: Cell, size: int, options: argparse.Namespace) -> None:
        dataset = cell.load(options.data)
        backbone, trace = load_network(
            options.backbone, classes=len(dataset.classes), weights=options.weights, input_size=size
        )
        backbone.to(options.device)
        self.target = Target(backbone, trace.layers[trace.head].name, dataset, size, test_images=TESTED)
        self.device = options.device
        part, judged, self.race_head = self.target.race
        self.head = self.target.prototypes
        both = all_of(self.target.train), all_of(part)
        self.examples = Features(torch.cat([each.values for each in both]), torch.cat([each.labels for each in both]))
        self.judged, self.test = all_of(judged), all_of(self.target.test)
        self.steps = steps_of(len(both[0]))
        raced = max(1, round(RACE * self.steps))
        self.race = Schedule(len(both[1]), raced, BATCH, 0, len(both[0]), options.device)
        self.full = {seed: Schedule(len(both[0]), self.steps, BATCH, seed, 0, options.device) for seed in options.seeds}
        self.proxy = Proxy(dataset, backbone, trace, size, options)
        if options.device == "cuda":
            torch.cuda.synchronize()


def all_of(pictures: Pictures) -> Features:
    """All pictures, as the network takes them."""
    return Features(pictures.inputs(torch.arange(len(pictures))), pictures.labels)


class Proxy(FewShotProxy):
    """The few-shot proxy, as a search asks it; it can also be asked beside other work."""

    def __init__(
        self, dataset: Dataset, backbone: nn.Module, trace: Trace, size: int, options: argparse.Namespace
    ) -> None:
        settings = FewShotSettings()
        episodes = draw_episodes(dataset.train, settings, size=size, seed=0, number=0)
        head, reference = trace.layers[trace.head].name, reference_of(trace, episodes)
        super().__init__(backbone, head, episodes, settings, reference, make_step=steps_on(options.device))
        self.settings = settings

    def asked(self, policy: UpdatePolicy) -> Work[dict[str, Any]]:
        """What it says of a policy; as `__call__`."""
        begun = time.perf_counter()
        optimizer, settings = policy.training.stepper, self.settings
        highest = policy.training.learning_rate or self._rate(optimizer)
        student = self._student(policy)
        folds = [self._images(number, student.boundary) for number in range(len(self._episodes))]
        supports = [fold.support for fold in folds]
        examples = Features(
            torch.cat([each.values for each in supports]), torch.cat([each.labels for each in supports])
        )
        device = examples.labels.device
        firsts = [sum(map(len, supports[:number])) for number in range(len(folds))]
        batch = min(settings.batch, *map(len, supports))
        plans = [
            Schedule(len(each), settings.steps, batch, number, firsts[number], str(device))
            for number, each in enumerate(supports)
        ]
        if device.type == "cuda":
            # What is kept for all policies was computed on this lane.
            torch.cuda.current_stream().synchronize()
        trainer = Trainer(student.model, optimizer, examples, batch, settings.steps)
        for rate in sorted((rate for rate in optimizer.rates if rate <= highest), reverse=True):
            said = []
            for fold, plan, head in zip(folds, plans, self._prototypes, strict=True):
                trainer.train(plan.order, plan.shares * rate, partial(set_head, student.model, self._head, head))
                said.append(answers(student.model, fold.query))
                yield False
            yield True
            accuracies = torch.stack([right.double().mean() for right, _ in said])
            right, losses = (torch.cat(each).double() for each in zip(*said, strict=True))
            share, loss, count = float(right.mean()), float(losses.mean()), len(right)
            if math.isfinite(loss):
                error = math.sqrt(max(share * (1 - share), 1 / count) / count)
                if len(said) > 1:
                    error = max(error, float(accuracies.std()) / math.sqrt(len(said)))
                return {
                    "accuracy": round(share, 5),
                    "accuracy_se": round(error, 5),
                    "loss": round(loss, 5),
                    "learning_rate": rate,
                    "queries": count,
                    "seconds": round(time.perf_counter() - begun, 2),
                }
        return {"error": "diverged"}


def measure(desk: Desk, job: Job) -> Work[dict[str, Any]]:
    """What is missing of a policy, and what it took."""
    said = (yield from desk.proxy.asked(job.policy)) if job.few_shot else {}
    start = time.perf_counter()
    target, optimizer = desk.target, job.policy.training.stepper
    model = apply(target.backbone, job.policy, seed=0)
    trainer = Trainer(model, optimizer, desk.examples, BATCH, desk.steps)
    race: dict[float, tuple[Tensor, Tensor]] = {}
    trained: dict[tuple[float, int], tuple[Tensor, Tensor]] = {}
    for rate in job.race:
        trainer.train(desk.race.order, desk.race.shares * rate, partial(set_head, model, target.head, desk.race_head))
        race[rate] = answers(model, desk.judged)
        yield False
    for rate, seed in job.trained:
        plan = desk.full[seed]
        trainer.train(plan.order, plan.shares * rate, partial(set_head, model, target.head, desk.head))
        trained[rate, seed] = answers(model, desk.test)
        yield False
    yield True
    full: dict[str, dict[str, list[float]]] = {}
    for (rate, seed), each in trained.items():
        full.setdefault(f"{rate:g}", {})[str(seed)] = told(*each)
    return {
        "cell": job.cell.name,
        "hash": job.policy.hash,
        "names": job.names,
        "optimizer": optimizer.name,
        "steps": desk.steps,
        "batch": BATCH,
        "train_images": len(target.train),
        "test_images": len(target.test),
        "race": {f"{rate:g}": told(*each) for rate, each in race.items()},
        "trained": full,
        "few_shot": said,
        "seconds": round(time.perf_counter() - start, 2),
    }


def told(right: Tensor, losses: Tensor) -> list[float]:
    """Accuracy and loss."""
    return [round(float(right.double().mean()), 5), round(float(losses.double().mean()), 5)]


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mobilenetv2-w0.35-tf")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--lanes", type=int, default=1, help="policies that a process trains at once")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no policy after so long")
    parser.add_argument("--cells", nargs="*", default=[])
    parser.add_argument("--policies", type=Path, help="as policies.py writes them; else those of the table")
    parser.add_argument("--first", type=int, help="only the first so many policies of each cell")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--few-shot", action="store_true", help="ask the proxy anew where the table has an answer")
    options = parser.parse_args()
    options.deadline = time.time() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    taken = multiprocessing.get_context("spawn").Value("i", 0)
    if not run_together(work, [(options, number, taken) for number in range(options.jobs)]):
        raise SystemExit("a worker failed: what is finished is kept")


if __name__ == "__main__":
    main()
