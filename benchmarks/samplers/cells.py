"""What the samplers are compared on: targets, devices, and how much of the data is used."""

from dataclasses import dataclass, replace
from pathlib import Path

from tinysearch.search.data.images import Dataset, Subset
from tinysearch.search.problem import Problem
from tinysearch.search.request import Request

BACKBONE = "mobilenetv2-w0.35-tf"


@dataclass(frozen=True)
class Cell:
    """A target on a device.

    Attributes:
        name: How it is called.
        data: File or folder of the data set, in the folder that the benchmark is told.
        device: What policies are priced on.
        size: Side of the images in pixels.
        train: Training images of each class.
        test: Test images of each class.
        shot: Support images of each class, as the few-shot proxy is told.
        queries: Images that it asks.
    """

    name: str
    data: str
    device: str
    size: int
    train: int
    test: int
    shot: int
    queries: int

    def problem(self, data: Path, weights: str, seed: int) -> Problem:
        """What is searched, with the episodes of a seed."""
        request = Request.make(
            device=self.device,
            dataset=str(data / self.data),
            backbone=BACKBONE,
            weights=weights,
            input_size=self.size,
            seed=seed,
            proxy={"shot": self.shot, "queries": self.queries},
        )
        problem = Problem.of(request)
        whole = problem.dataset
        train, test = Subset.balanced(whole.train, self.train), Subset.balanced(whole.test, self.test)
        return replace(problem, dataset=Dataset(self.name, whole.classes, train, test, whole.source))


CELLS = {
    cell.name: cell
    for cell in (
        Cell("cifar10-rpi4", "cifar10.npz", "rpi4", size=96, train=200, test=200, shot=50, queries=1300),
        Cell("dtd10-m7", "dtd10", "cortex-m7-int8", size=96, train=80, test=40, shot=40, queries=400),
    )
}
