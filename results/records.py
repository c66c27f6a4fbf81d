"""What is kept of a run: its trials, the members of its front, and what was searched.

Every record is immutable and checked when it is made, from Python values (NumPy scalars too) or from a file.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

#: Unknown keys and values that are not finite are refused.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
Answers = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrialRecord:
    """One policy that was looked at, and what came of it.

    Attributes:
        number: Its place in the run, from 0.
        hash: The policy's hash.
        policy: The policy as JSON text, its tuned learning rate included.
        row: The encoded policy; None for one outside the space.
        method: The named method that the policy is, or None.
        state: `complete`: it was scored; `infeasible`: it breaks a constraint and was not trained; `failed`:
            it raised an error.
        accuracy: Top-1 accuracy by the proxy, 0 to 1; with the costs, known of every complete trial.
        accuracy_se: Standard error of the accuracy.
        loss: Mean query loss by the proxy, nats.
        learning_rate: The tuned rate that the accuracy was reached with.
        peak_bytes: Peak training memory, the largest sum of what lives at a moment, B.
        arena_bytes: The planned arena, B; None on a device that has none.
        saved_bytes: Activations saved for the backward pass, B.
        flash_bytes: What is stored, B.
        latency_s: Time of one training step, s.
        energy_j: Energy of one training step, J; None where the device states no power.
        macs: Multiply-accumulates of one training step.
        warnings: What to know about the costs, such as a prediction outside its valid range.
        seconds: Time that the trial took, s.
        error: Why it failed or is infeasible.
        started: When it began, ISO 8601.
        answers: Whether each query of the proxy was answered right, as hexadecimal digits of packed bits.
        images: Where the image of each query is in the training split; empty where the proxy does not say.
    """

    number: Count
    hash: Hash
    policy: str
    row: tuple[int, ...] | None
    state: Literal["complete", "infeasible", "failed"]
    method: str | None = None
    accuracy: Share | None = None
    accuracy_se: Amount | None = None
    loss: float | None = None
    learning_rate: Amount | None = None
    peak_bytes: Count | None = None
    arena_bytes: Count | None = None
    saved_bytes: Count | None = None
    flash_bytes: Count | None = None
    latency_s: Amount | None = None
    energy_j: Amount | None = None
    macs: Count | None = None
    warnings: tuple[str, ...] = ()
    seconds: Amount = 0.0
    error: str | None = None
    started: str = ""
    answers: Answers = ""
    images: tuple[Count, ...] = ()

    @property
    def tried(self) -> bool:
        """Whether it was trained, or an attempt was made: what a run's number of trials counts."""
        return self.state != "infeasible"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rescore:
    """A trial's policy, scored again: on episodes that no search has looked at, and with another seed.

    Attributes:
        trial: Number of the trial.
        round: Which draw of episodes, from 1; the trials themselves are of round 0.
        accuracy: Top-1 accuracy by the proxy, 0 to 1; None where it failed. Likewise the fields that follow, as in
            `TrialRecord`.
        accuracy_se: Its standard error.
        loss: Mean query loss, nats.
        answers: Whether each query was answered right.
        images: Where their images are in the training split.
        seconds: Time that it took, s.
        error: Why it failed; None where it did not.
    """

    trial: Count
    round: Annotated[int, Field(ge=1)]
    accuracy: Share | None = None
    accuracy_se: Amount | None = None
    loss: float | None = None
    answers: Answers = ""
    images: tuple[Count, ...] = ()
    seconds: Amount = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What is believed of a trial's policy, of all evidence together. Fields as in `Member`.

    Attributes:
        as_good: By number of each other trial, the probability that its policy is at least as accurate.
        covered: Whether another policy costs no more in memory and time, and is not told apart in accuracy: then a
            front does without this one.
    """

    accuracy: float
    accuracy_se: float
    gain: float | None = None
    gain_se: float | None = None
    tied: bool | None = None
    covered: bool = False
    as_good: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Member:
    """A policy of the front. Fields as in `TrialRecord`.

    Attributes:
        policy: File of the policy, relative to the run directory.
        trial: Number of the trial that found it.
        accuracy: What is believed of it: where the run has a surrogate, what that makes of all trials together.
        accuracy_se: How far that may be off.
        gain: Accuracy above that of `last`, the head alone; None where it is not known.
        gain_se: Its standard error, in which what all policies have in common cancels.
        tied: Whether it cannot be told from the most accurate member, at two standard errors.
        cheaper_as_good: Probability that the most accurate of the members that cost less memory and are no slower is at
            least as accurate: then this one buys nothing. None where there is no such member, or it is not known.
        backbone: In a run of several networks, the one that it trains; else None.
        input_size: Likewise, the side of its images in pixels.
    """

    policy: str
    hash: Hash
    accuracy: Share
    accuracy_se: Amount | None = None
    loss: float | None = None
    learning_rate: Amount | None = None
    peak_bytes: Count
    arena_bytes: Count | None = None
    saved_bytes: Count
    flash_bytes: Count
    latency_s: Amount
    energy_j: Amount | None = None
    macs: Count
    method: str | None = None
    trial: Count
    warnings: tuple[str, ...] = ()
    gain: float | None = None
    gain_se: Amount | None = None
    tied: bool | None = None
    cheaper_as_good: Share | None = None
    backbone: str | None = None
    input_size: Annotated[int, Field(ge=1)] | None = None

    @property
    def network(self) -> str:
        """In a run of several networks, the one that it trains, as "mcunet-5fps 128"; else empty."""
        return "" if self.backbone is None else f"{self.backbone} {self.input_size or ''}".rstrip()

    @property
    def memory_bytes(self) -> int:
        """What must fit the RAM: the planned arena where there is one, else the peak."""
        return self.peak_bytes if self.arena_bytes is None else self.arena_bytes


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunInfo:
    """What was searched, for titles and footers; the whole request is in request.json.

    Attributes:
        device: Device profile.
        dataset: Target data set.
        backbone: Pretrained network.
        batch: Samples of a training step.
        proxy: How the accuracy was obtained.
        seed: Seed of the search.
        trials: Trials that the front was chosen from, failed and infeasible ones included.
        latency_error: The mean error to expect of predicted latencies, as a share; None where it is unknown.
    """

    device: str
    dataset: str
    backbone: str
    batch: Annotated[int, Field(ge=1)]
    proxy: str
    seed: int
    trials: Count
    latency_error: Amount | None = None


def policy_file(policy_hash: str) -> str:
    """Where a run directory keeps a policy, relative to itself."""
    return f"policies/{policy_hash}.json"
