"""A Pareto front: the policies of a run that no other policy of the run dominates.

The file format is described in docs/run-directory.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ..core.errors import InputError
from ..core.files import read_text, write_atomically
from ..core.formats import Format
from .limits import Limits
from .pareto import OBJECTIVES, Objective, as_minimised, hypervolume, nondominated
from .records import STRICT, Judgement, Member, RunInfo, Share, TrialRecord, policy_file

if TYPE_CHECKING:
    import pandas as pd

#: Times whose ratio is less are the same: no prediction is that exact.
SAME_TIME = 1.02


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Front:
    """The members of a front and what it takes to read them.

    Attributes:
        run: What was searched.
        objectives: What the members trade against each other.
        reference_point: The worst value of each objective that counts for the hypervolume.
        ideal_point: The best value thinkable of each objective. Hypervolumes compare between fronts that
            state the same two points.
        hypervolume: Share of the box between the two points that the members dominate.
        members: By ascending peak memory.
        warnings: What to know about the front, or about the costs of any member, such as a prediction outside its valid
            range.

    Example:
        >>> import tinysearch as ts
        >>> front = ts.load_run("runs/digits").front  # what `tinysearch run --out runs/digits` found
        >>> front.best() in front.members
        True
        >>> front.members[0].peak_bytes <= front.members[-1].peak_bytes
        True
    """

    FORMAT: ClassVar[Format] = Format("tinysearch.front", 2, "front")

    run: RunInfo
    objectives: tuple[Objective, ...] = Field(min_length=1)
    reference_point: dict[str, float]
    ideal_point: dict[str, float]
    hypervolume: Share
    members: tuple[Member, ...]
    warnings: tuple[str, ...] = ()

    @field_validator("members")
    @classmethod
    def _by_memory(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
        return tuple(sorted(members, key=lambda m: (m.peak_bytes, m.latency_s, m.trial)))

    @model_validator(mode="after")
    def _points_name_the_objectives(self) -> Self:
        names = {objective.name for objective in self.objectives}
        if set(self.reference_point) != names or set(self.ideal_point) != names:
            raise ValueError(f"both points must have a value for each of {sorted(names)}, and no other")
        return self

    @classmethod
    def from_trials(
        cls,
        trials: Iterable[TrialRecord],
        run: RunInfo,
        reference_point: Mapping[str, float],
        ideal_point: Mapping[str, float],
        objectives: Sequence[Objective] = OBJECTIVES,
        judged: Mapping[int, Judgement] = MappingProxyType({}),
        warnings: Sequence[str] = (),
    ) -> Self:
        """Choose the front of a run.

        Of trials with equal objectives the first is kept, so a named method is not displaced by a policy
        that only equals it. Infeasible and failed trials are left out, and those that are judged to be covered.

        Args:
            trials: All trials of the run, in order.
            run: What was searched; its number of trials is set to that of `trials`.
            reference_point: The worst value of each objective that counts, in natural units.
            ideal_point: The best value thinkable of each objective, in natural units.
            objectives: What is traded.
            judged: By number of a trial, what is believed of its accuracy; of others, what the trial says.
            warnings: What to know of the front as a whole.

        Raises:
            ValueError: An ideal value is not better than its reference.
        """
        every = list(trials)
        scored = [_believed(trial, judged.get(trial.number)) for trial in every if trial.state == "complete"]
        names = [objective.name for objective in objectives]
        natural = [[getattr(trial, name) for name in names] for trial in scored]
        values = as_minimised(natural, objectives) if scored else as_minimised([[0.0] * len(names)], objectives)[:0]
        best, worst = (
            as_minimised([point[name] for name in names], objectives) for point in (ideal_point, reference_point)
        )
        covered = {number for number, judgement in judged.items() if judgement.covered}
        on_front = nondominated(values)
        chosen = [trial for trial, best in zip(scored, on_front, strict=True) if best and trial.number not in covered]
        return cls(
            run=replace(run, trials=len(every)),
            objectives=tuple(objectives),
            reference_point=dict(reference_point),
            ideal_point=dict(ideal_point),
            hypervolume=hypervolume(values, worst, best),
            members=_compared([_member(trial, judged.get(trial.number)) for trial in chosen], judged),
            warnings=tuple(dict.fromkeys([*warnings, *(warning for trial in chosen for warning in trial.warnings)])),
        )

    def rival(self, member: Member) -> Member | None:
        """The most accurate of the members that cost less memory and are no slower; None if there is none."""
        return _rival(member, self.members)

    def best(
        self,
        memory: str | float | None = None,
        latency: str | float | None = None,
        energy: str | float | None = None,
    ) -> Member:
        """The most accurate member within limits; of equally accurate ones, the one of least memory.

        Args:
            memory: Most peak training memory, such as "256KiB", or a number of bytes.
            latency: Longest training step, such as "800ms", or a number of seconds.
            energy: Most energy of a step, such as "2J", or a number of joules.

        Raises:
            InputError: The front is empty, no member is within the limits, or a limit is no quantity.
        """
        if not self.members:
            raise InputError("the front is empty: no trial was completed within the constraints")
        limits = Limits.read(memory=memory, latency=latency, energy=energy)
        fitting = [member for member in self.members if limits.admit(member)]
        if not fitting:
            raise InputError(f"no policy of the front has {limits.complaint(self.members)}")
        return max(fitting, key=lambda member: (member.accuracy, -member.peak_bytes))

    @property
    def recommended(self) -> Member | None:
        """The member of least memory among those that cannot be told from the most accurate one; None if unknown."""
        return next((member for member in self.members if member.tied), None)

    def find(
        self,
        name: str,
        memory: str | float | None = None,
        latency: str | float | None = None,
        energy: str | float | None = None,
    ) -> Member:
        """A member by name.

        Args:
            name: `best`, `recommended`, the start of a member's hash, or the method that it is.
            memory: With `best`: a limit, as of `best`; likewise `latency` and `energy`.
            latency: Longest training step.
            energy: Most energy of a step.

        Raises:
            InputError: There is no such member, there are several, or limits are given with another name.
        """
        if name == "best":
            return self.best(memory, latency, energy)
        if any(limit is not None for limit in (memory, latency, energy)):
            raise InputError(f"limits choose the best member: leave them out with policy {name!r}", "policy")
        if name == "recommended" and self.recommended is not None:
            return self.recommended
        matching = [member for member in self.members if member.hash.startswith(name) or member.method == name]
        if len(matching) != 1:
            raise InputError(f"{len(matching)} members of the front are called {name!r:.60}: see `show`")
        return matching[0]

    def to_dataframe(self) -> "pd.DataFrame":
        """The members as a pandas table, one row each, columns named as the fields.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("a data frame needs pandas: pip install 'tinysearch[dataframe]'") from error
        return pd.DataFrame(
            [asdict(member) for member in self.members], columns=[field.name for field in fields(Member)]
        )

    def to_dict(self) -> dict[str, Any]:
        """The front as JSON values, with its format and version."""
        content: dict[str, Any] = TypeAdapter(Front).dump_python(self, mode="json")
        for member in content["members"]:
            for name in ("arena_bytes", "gain", "gain_se", "tied", "cheaper_as_good", "backbone", "input_size"):
                if member[name] is None:  # left out, so that programs from before there was one read the file
                    del member[name]
        # What has no networks is as it was in version 1.
        return self.FORMAT.values(content) | ({} if any(m.network for m in self.members) else {"version": 1})

    def to_json(self) -> str:
        """The front as JSON text."""
        return self.FORMAT.text(self.to_dict())

    @classmethod
    def from_json(cls, text: str, origin: str = "front") -> "Front":
        """Read a front back.

        Args:
            text: What `to_json` gave, maybe of a newer version.
            origin: Where the text comes from, for messages.

        Raises:
            InputError: It is no front, or one of its fields is wrong; the field is named.
        """
        return cls.FORMAT.read(TypeAdapter(Front), text, origin)

    @classmethod
    def load(cls, path: str | Path) -> "Front":
        """Read a front's file.

        Raises:
            InputError: The file is missing, too large, or no front.
        """
        return cls.from_json(read_text(Path(path)), str(path))

    def save(self, path: str | Path) -> Path:
        """Write the front as a file, whose folder must exist, and return its path."""
        return write_atomically(Path(path), self.to_json())


def _rival(member: Member, members: Iterable[Member]) -> Member | None:
    cheaper = (
        other
        for other in members
        if other.peak_bytes < member.peak_bytes and other.latency_s <= SAME_TIME * member.latency_s
    )
    return max(cheaper, key=lambda other: (other.accuracy, -other.peak_bytes), default=None)


def _compared(members: Sequence[Member], judged: Mapping[int, Judgement]) -> tuple[Member, ...]:
    """The members, each compared with its rival."""
    rivals = [(member, _rival(member, members)) for member in members]
    return tuple(
        member
        if rival is None or member.trial not in judged
        else replace(member, cheaper_as_good=judged[member.trial].as_good.get(rival.trial))
        for member, rival in rivals
    )


def _believed(trial: TrialRecord, judgement: Judgement | None) -> TrialRecord:
    if judgement is None:
        return trial
    return replace(trial, accuracy=judgement.accuracy, accuracy_se=judgement.accuracy_se)


def _member(trial: TrialRecord, judgement: Judgement | None) -> Member:
    shared = {field.name: getattr(trial, field.name) for field in fields(Member) if hasattr(trial, field.name)}
    judged = {} if judgement is None else {key: getattr(judgement, key) for key in ("gain", "gain_se", "tied")}
    return Member(**shared | judged | {"policy": policy_file(trial.hash), "trial": trial.number})
