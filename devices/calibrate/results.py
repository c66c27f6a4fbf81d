"""Reading what was measured, on this machine or on a board; checked before anything is made of it."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...core.errors import InputError, TinySearchError
from ...core.files import read_text
from ...core.formats import Format, parse_json
from ...spaces.backbones.catalogue import load_backbone
from ...spaces.optimizers import OptimizerName
from ...spaces.policy import UpdatePolicy
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace, trace
from .jobs import CLASSES
from .standalone import RESULTS_FORMAT, VERSION

RESULTS = Format(RESULTS_FORMAT, VERSION, "results of a calibration")

Positive = Annotated[float, Field(gt=0, lt=1e5)]
Count = Annotated[int, Field(ge=0, lt=10_000)]
Rows = dict[Annotated[str, Field(max_length=200)], Annotated[float, Field(ge=0, lt=1e5)]]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Record):
    """What decides how long a step takes; see `standalone.machine`."""

    processor: Annotated[str, Field(max_length=200)]
    architecture: Annotated[str, Field(max_length=200)] = ""
    system: Annotated[str, Field(max_length=200)] = ""
    cores: Annotated[int, Field(gt=0, lt=100_000)]
    governor: Annotated[str, Field(max_length=200)] | None
    temperature: float | None
    load: float
    memory: Annotated[int, Field(ge=0)]
    available: Annotated[int, Field(ge=0)]
    disk: Annotated[int, Field(gt=0)]
    allocator: dict[str, str]
    python: Annotated[str, Field(max_length=200)] = ""


class NetworkJob(_Record):
    """A measured network."""

    backbone: Annotated[str, Field(max_length=200)]
    input_size: Annotated[int, Field(gt=0, le=4096)]


class StepJob(_Record):
    """A measured policy, as JSON text, and the number of its network."""

    network: Count
    policy: Annotated[str, Field(max_length=2**20)]


class Jobs(_Record):
    """What was asked for."""

    layers: Literal["tinysearch", "plain"]
    batch: Annotated[int, Field(gt=0, le=65_536)]
    optimizer: OptimizerName
    networks: tuple[NetworkJob, ...] = Field(max_length=1000)
    steps: tuple[StepJob, ...] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _refers(self) -> "Jobs":
        if any(step.network >= len(self.networks) for step in self.steps):
            raise ValueError("a step names a network that is not there")
        return self


class StepResult(_Record):
    """Times of one step, in seconds: whole, and by row forward and backward."""

    step: Count
    seconds: tuple[Positive, ...] = Field(min_length=1, max_length=1000)
    forward: Rows = Field(max_length=5000)
    backward: Rows = Field(max_length=5000)


class MemoryResult(_Record):
    """What a process held and grew by; or why that is not known."""

    step: Count
    baseline: Annotated[int, Field(gt=0)] | None = None
    growth: Annotated[int, Field(ge=0)] | None = None
    error: str | None = None


class Results(_Record):
    """The content of a results file."""

    machine: Machine
    temperature_after: float | None
    torch: Annotated[str, Field(max_length=100)]
    device: Annotated[str, Field(max_length=100)]
    threads: Annotated[int, Field(gt=0, lt=10_000)]
    freed_memory_kept: bool
    elapsed: Positive
    jobs: Jobs
    steps: tuple[StepResult, ...] = Field(max_length=10_000)
    memory: tuple[MemoryResult, ...] = Field(max_length=1000)

    @model_validator(mode="after")
    def _refers(self) -> "Results":
        count = len(self.jobs.steps)
        if any(number >= count for number in (*(s.step for s in self.steps), *(m.step for m in self.memory))):
            raise ValueError("a result is of a step that was not asked for")
        return self


@dataclass(frozen=True)
class Sample:
    """A measured step.

    Attributes:
        table: The policy, N = 1.
        network: Number of its network: steps of one network are held out together.
        seconds: Median time of the whole step.
        forward: Seconds of each row's forward pass at its fastest, by name.
        backward: Of each row's backward pass.
    """

    table: UpdateTable
    network: int
    seconds: float
    forward: dict[str, float]
    backward: dict[str, float]


@dataclass(frozen=True)
class Growth:
    """What a process with a policy grew by, in bytes, from `baseline`."""

    table: UpdateTable
    baseline: int
    growth: int


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        InputError: It is no results file, or something in it cannot be.
    """
    return parse_results(parse_json(read_text(path), str(path)), str(path))


def parse_results(content: Any, origin: str) -> Results:
    """Check the content of a results file; `origin` names it in messages.

    Raises:
        InputError: As `read_results`.
    """
    return RESULTS.validate(Results, *RESULTS.open(content, origin), origin)


class Traces:
    """Traces and policies of the jobs that results refer to."""

    def __init__(self, jobs: Jobs, origin: str) -> None:
        self._jobs, self._origin = jobs, origin
        self._traces: dict[int, Trace] = {}

    def table(self, number: int) -> UpdateTable:
        """The policy of a step.

        Raises:
            InputError: It is none, or is for another network.
        """
        step = self._jobs.steps[number]
        network = self._jobs.networks[step.network]
        try:
            if step.network not in self._traces:
                size = network.input_size
                model = load_backbone(network.backbone, num_classes=CLASSES, input_size=size)
                self._traces[step.network] = trace(model, (3, size, size))
            return UpdateTable.of(self._traces[step.network], [UpdatePolicy.from_json(step.policy)])
        except TinySearchError as error:
            raise InputError(f"{self._origin}: step {number}: {error}") from error


def samples(results: Results, traces: Traces) -> list[Sample]:
    """The measured steps."""
    return [
        Sample(
            traces.table(result.step),
            results.jobs.steps[result.step].network,
            median(result.seconds),
            result.forward,
            result.backward,
        )
        for result in results.steps
    ]


def growths(results: Results, traces: Traces) -> list[Growth]:
    """The measured memory."""
    return [
        Growth(traces.table(result.step), result.baseline, result.growth)
        for result in results.memory
        if result.baseline is not None and result.growth
    ]


def repeatability(results: Results) -> float | None:
    """By how much a second measurement of a step differs, mean over steps measured twice, in percent."""
    times: dict[tuple[int, str], list[float]] = {}
    for result in results.steps:
        job = results.jobs.steps[result.step]
        times.setdefault((job.network, job.policy), []).append(median(result.seconds))
    differences = [abs(b - a) / ((a + b) / 2) for a, b, *_ in (found for found in times.values() if len(found) > 1)]
    return 100 * sum(differences) / len(differences) if differences else None


def disturbance(results: Results) -> float:
    """By how much a step takes longer as a rule than at its fastest, median over steps, in percent."""
    return 100 * median(median(result.seconds) / min(result.seconds) - 1 for result in results.steps)
