"""The front of a run as another accounting counts it."""

from pathlib import Path

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
    problem, members = Problem.of_run(run, data_dir, for_costs=True), run.front.members
    names = {
        "policy": [member.hash[:8] for member in members],
        "method": [member.method or "found" for member in members],
        "accuracy": [percent(member.accuracy, member.accuracy_se) for member in members],
    }
    policies = [UpdatePolicy.load(run.policy_path(member)) for member in members]
    title = f"{run.path}: {problem.trace.name}, batch {problem.batch}, accounting {accounting}"
    return compare(
        problem.trace, policies, names, problem.device, batch=problem.batch, accounting=accounting, title=title
    )
