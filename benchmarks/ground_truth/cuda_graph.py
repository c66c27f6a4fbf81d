"""Optimizer steps on a CUDA device, recorded once as a graph: small kernels cost more to launch than to run."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from tinysearch.search.problem import Problem
from tinysearch.search.proxies import make_proxy
from tinysearch.search.proxies.base import Proxy
from tinysearch.search.training import Start, Step
from tinysearch.spaces.engine import masks
from tinysearch.spaces.optimizers import Optimizer


def steps_on(device: str) -> Callable[[nn.Module, Optimizer], Step]:
    """What makes steps on a device: those of a CUDA device are recorded."""
    if device == "cpu":
        return Step
    keep_whole_masks()
    return Graphed()


def few_shot(problem: Problem, device: str) -> Proxy:
    """The few-shot proxy of a problem, computing on a device."""
    made = make_proxy(replace(problem, backbone=deepcopy(problem.backbone).to(device)))
    return made.func(*made.args, make_step=steps_on(device))  # type: ignore[attr-defined]  # a partial


def keep_whole_masks() -> None:
    """Keep a byte where the engine packs eight bits into one: the same gradients, from fewer kernels."""
    masks.pack_bits = lambda mask: mask
    masks.apply_bits = lambda grad, mask, *, channels_last=False: grad * mask


class GraphedStep(Step):
    """As `Step`, for batches of one shape; it can begin anew without being recorded again."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(model, optimizer)
        self._inputs, self._labels = inputs.clone(), labels.clone()
        self._rate = torch.tensor(0.0, device=inputs.device)
        for group in self._stepper.param_groups:
            # A rate that is a tensor can be recorded by Adam so, and by SGD so.
            group["capturable" if "betas" in group else "fused"] = True
        start = Start(model)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                super().__call__(self._inputs, self._labels, self._rate)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        self._stepper.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            super().__call__(self._inputs, self._labels, self._rate)
        start.restore()

    def begin(self) -> "GraphedStep":
        """Forget what the optimizer remembers."""
        for state in self._stepper.state.values():
            for value in state.values():
                value.zero_()
        return self

    def __call__(self, inputs: Tensor, labels: Tensor, rate: float) -> None:
        """Train on a batch at a rate."""
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._rate.fill_(rate)
        self._graph.replay()


class Graphed:
    """Makes steps for `fit`: each model's is recorded at its first batch and used again after that."""

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._steps: dict[int, GraphedStep] = {}

    def __call__(self, model: nn.Module, optimizer: Optimizer) -> "_Lazy":
        """What `fit` calls with each batch."""
        if model is not self._model:
            self._model, self._steps = model, {}
        return _Lazy(model, optimizer, self._steps)


class _Lazy(Step):
    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: dict[int, GraphedStep]) -> None:
        self._model, self._optimizer, self._steps = model, optimizer, steps
        self._begun: GraphedStep | None = None

    def __call__(self, inputs: Tensor, labels: Tensor, rate: float) -> None:
        if self._begun is None:
            if len(inputs) not in self._steps:
                self._steps[len(inputs)] = GraphedStep(self._model, self._optimizer, inputs, labels)
            self._begun = self._steps[len(inputs)].begin()
        self._begun(inputs, labels, rate)
