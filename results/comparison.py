"""Two runs of one request beside each other: whether they found the same, and what they ran on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .identity import changes
from .records import Member, TrialRecord
from .rundir import RunDirectory

#: What is compared of trials of the same policy, beside whether they are complete.
SCORES = ("accuracy", "loss", "learning_rate", "peak_bytes", "flash_bytes", "latency_s", "energy_j")
#: Of what a process noted of itself, what differs from one to the next anyway.
_OF_THE_MOMENT = ("started",)
_SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """How two runs of one request differ.

    Attributes:
        trials: How many trials either has.
        other: Numbers of the trials that are of another policy, or ended otherwise, or that only one has.
        largest: The largest difference of each score, over trials of the same policy; without those that do not differ.
        members: How many members either front has.
        only: Members that only the one, and only the other front has.
        request: Lines that say what was asked otherwise.
        environment: Lines that say what differs in what the last processes ran on.
        equal: Whether fronts and trials are the same to the last digit, but for times.
    """

    trials: tuple[int, int]
    other: tuple[int, ...]
    largest: dict[str, float]
    members: tuple[int, int]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    request: tuple[str, ...]
    environment: tuple[str, ...]
    equal: bool

    @classmethod
    def of(cls, before: RunDirectory, now: RunDirectory) -> "Comparison":
        """Compare two runs.

        Raises:
            InputError: One has no front or no trials, or they cannot be read.
        """
        first, second = (sorted(run.trials(), key=lambda trial: trial.number) for run in (before, now))
        pairs = _paired(first, second)
        same = [(a, b) for a, b in pairs if (a.hash, a.state) == (b.hash, b.state)]
        known = {trial.number for trial, _ in same}
        every = {trial.number for trial in (*first, *second)}
        gaps = {name: max((_gap(a, b, name) for a, b in same), default=0.0) for name in SCORES}
        fronts = before.front, now.front
        names = [[_name(member) for member in front.members] for front in fronts]
        untimed = [[replace(trial, seconds=0.0, started="") for trial in run] for run in (first, second)]
        return cls(
            trials=(len(first), len(second)),
            other=tuple(sorted(every - known)),
            largest={name: gap for name, gap in gaps.items() if gap},
            members=(len(names[0]), len(names[1])),
            only=(
                tuple(name for name in names[0] if name not in names[1]),
                tuple(name for name in names[1] if name not in names[0]),
            ),
            request=tuple(changes(before.request, now.request)),
            environment=tuple(changes(_ran_on(before), _ran_on(now))),
            equal=untimed[0] == untimed[1] and fronts[0] == fronts[1],
        )

    def lines(self) -> list[str]:
        """What is to be said of it."""
        lines = [f"trials: {self.trials[0]} before, {self.trials[1]} now{_listed(', others', map(str, self.other))}"]
        gaps = ", ".join(f"{name} by up to {gap:.3g}" for name, gap in self.largest.items())
        lines.append(f"scores of the same policies: {gaps or 'the same to the last digit'}")
        only = _listed("; only before", self.only[0]) + _listed("; only now", self.only[1])
        lines.append(f"front: {self.members[0]} members before, {self.members[1]} now{only}")
        lines += [f"request: {line}" for line in self.request]
        lines += [f"environment: {line}" for line in self.environment]
        return [*lines, "equal" if self.equal else "not equal"]


def _paired(first: Sequence[TrialRecord], second: Sequence[TrialRecord]) -> list[tuple[TrialRecord, TrialRecord]]:
    numbered = {trial.number: trial for trial in second}
    return [(trial, numbered[trial.number]) for trial in first if trial.number in numbered]


def _gap(one: TrialRecord, other: TrialRecord, name: str) -> float:
    values = getattr(one, name), getattr(other, name)
    return 0.0 if None in values else float(abs(values[0] - values[1]))


def _name(member: Member) -> str:
    return f"{member.network} {member.method or member.hash[:8]}".strip()


def _ran_on(run: RunDirectory) -> dict[str, Any]:
    """What the last process that worked on a run noted of itself, and of what its networks were loaded from."""
    noted = dict(run.sessions[-1]) if run.sessions else {}
    for network in run.networks:
        if network.sessions:
            noted[network.path.name] = network.sessions[-1].get("inputs", {})
    return {key: value for key, value in noted.items() if key not in _OF_THE_MOMENT}


def _listed(what: str, names: Any) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{what}: {', '.join(shown[:_SHOWN])}{more}" if shown else ""
