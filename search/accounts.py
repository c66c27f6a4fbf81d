"""The front of a run as another accounting counts it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.listing import Listing
from ..devices.inspection import compare
from ..results.rundir import RunDirectory
from ..results.tables import percent
from ..spaces.policy import UpdatePolicy
from .problem import Problem


def count_front(run: RunDirectory | str | Path, accounting: str, data_dir: str | Path | None = None) -> Listing:
    """The members of a front with their costs by an accounting.

    Args:
        run: The run, or its directory.
        accounting: Whose rules to count by.
        data_dir: Where data sets lie; the classes of the run's decide the size of the head.

    Raises:
        InputError: There is no such run or accounting, or what the run was searched with is not there any more.
        MissingDataError: The run's data set is not there.
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory.load(run)
    front = run.front
    runs = {own.path: own for own in map(run.of, front.members)} or {run.path: run}
    counted: dict[str, Sequence[Any]] = {}
    for path, own in runs.items():
        members = [member for member in front.members if run.of(member).path == path]
        problem = Problem.of_run(own, data_dir, for_costs=True)
        names = {
            "policy": [member.hash[:8] for member in members],
            **({"network": [member.network for member in members]} if run.networks else {}),
            "method": [member.method or "found" for member in members],
            "accuracy": [percent(member.accuracy, member.accuracy_se) for member in members],
        }
        policies = [UpdatePolicy.load(run.policy_path(member)) for member in members]
        title = f"{run.path}: {front.run.backbone}, batch {problem.batch}, accounting {accounting}"
        listing = compare(
            problem.trace, policies, names, problem.device, batch=problem.batch, accounting=accounting, title=title
        )
        counted |= {member.hash: row for member, row in zip(members, listing.rows, strict=True)}
    rows = [counted[member.hash] for member in front.members]
    return replace(listing, rows=rows, show={**listing.show, "accuracy": str})  # it is text already
