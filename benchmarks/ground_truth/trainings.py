"""Trainings that go on side by side on one GPU, begun by one process.

A model's step is recorded once as a graph, which finds its batch and its rate by itself: a training is so many replays,
and nothing waits for it but the end. On a CPU the same step is computed as it is.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinysearch.search.training import Features, Recipe, Start, Step, batches
from tinysearch.spaces.optimizers import Optimizer

#: Trainings that wait on a lane behind the one that is computed.
AHEAD = 2
#: Images that are answered at once.
CHUNK = 250
#: Share of a GPU's memory that is kept for graphs that are gone.
KEPT = 0.6
#: Seconds to wait where every lane has enough to do.
PAUSE = 0.0005

Result = TypeVar("Result")
#: Begins trainings one by one, and yields after each: whether it must wait for those begun. Ends with what they gave.
Work = Generator[bool, None, Result]


class Trainer(Step):
    """A model without dropout that is trained from the same start again and again, as `fit` does without augmentation.

    Args:
        model: An applied policy, or the part of it that trains.
        optimizer: By what it is trained.
        examples: All that it may be trained on.
        batch: How many a step takes.
        most: Most steps of a training.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, examples: Features, batch: int, most: int) -> None:
        super().__init__(model, optimizer)
        self._examples = examples
        device = examples.labels.device
        self._recorded = device.type == "cuda"
        self._order = torch.zeros((most, batch), dtype=torch.long, device=device)
        self._rates = torch.zeros(most, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._start = Start(model)
        model.train()
        self._take = self._record() if self._recorded else self._once

    def train(self, order: Tensor, rates: Tensor, prepare: Callable[[], object]) -> None:
        """Train from the start.

        Args:
            order: Which examples each step takes, on the device, (steps, batch).
            rates: Its rate, on the device, (steps,).
            prepare: Called with the model at its start.
        """
        self._start.restore()
        prepare()
        for state in self._stepper.state.values():
            for value in state.values():
                value.zero_()
        self._order[: len(order)].copy_(order)
        self._rates[: len(rates)].copy_(rates)
        self._at.zero_()
        self._model.train()
        for _ in range(len(order)):
            self._take()
        self._model.eval()

    def _once(self) -> None:
        picked = self._order[self._at][0]
        rate = self._rates[self._at][0]
        inputs, labels = self._examples.values[picked], self._examples.labels[picked]
        self(inputs, labels, rate if self._recorded else rate.item())  # type: ignore[arg-type]  # a tensor is recorded
        self._at += 1

    def _record(self) -> Callable[[], None]:
        for group in self._stepper.param_groups:
            # A rate that is a tensor can be recorded by Adam so, and by SGD so.
            group["capturable" if "betas" in group else "fused"] = True
        for _ in range(3):
            self._once()
        self._stepper.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # Not by `torch.cuda.graph`, which waits for all other lanes.
        graph.capture_begin()
        try:
            self._once()
        finally:
            graph.capture_end()
        return graph.replay


@torch.inference_mode()
def answers(model: nn.Module, examples: Features) -> tuple[Tensor, Tensor]:
    """Whether a model in evaluation mode is right on each example, and its losses in nats, where the model is."""
    logits = torch.cat([model(values) for values in torch.split(examples.values, CHUNK)]).float()
    losses = F.cross_entropy(logits, examples.labels, reduction="none")
    return logits.argmax(1) == examples.labels, losses


class Schedule:
    """What each step of a training takes, and its share of the highest rate: as `fit` has it, on a device.

    Args:
        count: Examples to train on.
        steps: Optimizer steps.
        batch: Examples of a step; where there are fewer, all of them.
        seed: Seed of the order.
        first: Where the examples begin in a larger set.
        device: Where.
    """

    def __init__(self, count: int, steps: int, batch: int, seed: int, first: int, device: str) -> None:
        recipe = Recipe(steps, batch, learning_rate=1.0, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.order = torch.stack(list(batches(count, recipe, generator))).add_(first).to(device)
        self.shares = torch.tensor([recipe.share(step) for step in range(steps)]).to(device)


class Lane(Generic[Result]):
    """A stream of a device, and the work on it."""

    def __init__(self, device: str) -> None:
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]
        self._marks: deque[torch.cuda.Event] = deque()
        self._waits = False
        self.work: Work[Result] | None = None

    @property
    def ready(self) -> bool:
        """Whether the work can go on."""
        while self._marks and self._marks[0].query():  # type: ignore[no-untyped-call]
            self._marks.popleft()
        return not self._marks if self._waits else len(self._marks) < AHEAD

    def advance(self) -> None:
        """Let the work begin another training; raises StopIteration with its result at the end."""
        assert self.work is not None
        with self._entered():
            self._waits = next(self.work)
            if self._stream is not None:
                mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
                mark.record(self._stream)
                self._marks.append(mark)

    def _entered(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def side_by_side(works: Iterator[Work[Result]], lanes: int, device: str, processes: int) -> Iterator[Result]:
    """Do works on so many lanes of a device that so many processes share; gives what each ends with."""
    free = [Lane[Result](device) for _ in range(lanes)]
    busy: list[Lane[Result]] = []
    while True:
        while free:
            work = next(works, None)
            if work is None:
                break
            free[-1].work = work
            busy.append(free.pop())
        if not busy:
            return
        ready = [lane for lane in busy if lane.ready]
        if not ready:
            time.sleep(PAUSE)
        for lane in ready:
            try:
                lane.advance()
            except StopIteration as end:
                lane.work = None
                busy.remove(lane)
                free.append(lane)
                if device == "cuda" and torch.cuda.memory_reserved() > KEPT * torch.cuda.mem_get_info()[1] / processes:
                    torch.cuda.empty_cache()
                yield end.value
