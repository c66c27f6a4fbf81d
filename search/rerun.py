"""A run done again from its own request, and compared with what it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..results.comparison import Comparison
from ..results.rundir import RunDirectory
from .distributed.choice import Place
from .networks import weights_for
from .observer import Observer
from .request import Request
from .run import run as search
from .several import run_several


@dataclass(frozen=True)
class Rerun:
    """A run that was done again.

    Attributes:
        run: The new run.
        comparison: How it differs from the one before.
    """

    run: RunDirectory
    comparison: Comparison


def rerun(
    run: RunDirectory | str | Path,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    weights: str | None = None,
    trial_timeout: str | float | None = None,
    jobs: int | str | None = None,
    observer: Observer | None = None,
) -> Rerun:
    """Do a run again, from its request, and say what differs.

    It goes on as long as the run did: to as many policies and as many rounds of scoring finalists again. On one kind of
    processor, with the same packages, all comes out the same to the last digit.

    Args:
        run: The run, of one network or several.
        out: The new run directory; beside the run, its name with "-rerun". One that is there is gone on with.
        data_dir: Where data sets lie, which a run does not keep.
        weights: The weights, if they were a file that has moved; of several backbones as in `ts.run`.
        trial_timeout: When a policy counts as failed, as in `ts.run`; a run does not keep that.
        jobs: Policies scored at once, as in `ts.run`.
        observer: Told of the new run's progress; nobody.

    Raises:
        InputError: The run has no front, or something that it names is wrong.
        MissingDataError: Data or weights are missing.
        ConflictError: `out` holds another run.
        TinySearchError: Whatever else a run may end with.

    Example:
        >>> import tinysearch as ts
        >>> again = ts.rerun("runs/digits", "runs/again")
        >>> again.comparison.equal
        True
    """
    before = run if isinstance(run, RunDirectory) else RunDirectory.load(run)
    _ = before.front  # or there is nothing to compare with
    path = Path(out) if out is not None else before.path.with_name(f"{before.path.name}-rerun")
    if path.resolve() == before.path.resolve():
        raise InputError(f"{path} is the run itself: choose another out", "out")
    wanted = {
        "trials": sum(trial.tried for trial in before.trials()),
        "rescore": 0 if before.networks else max((rescore.round for rescore in before.rescores()), default=0),
        "data_dir": data_dir,
        "trial_timeout": trial_timeout,
    }
    asked = [
        _asked(network) | wanted | _given(weights=weights_for(network, before, weights))
        for network in before.networks or (before,)
    ]
    if before.networks:
        requests = [Request.make(**each) for each in asked]
        place = Place.of(jobs, requests[0].round_size, timeout=requests[0].trial_timeout)
        now = run_several(requests, path, place, observer)
    else:
        now = search(**asked[0], out=path, jobs=jobs, observer=observer)
    return Rerun(now, Comparison.of(before, now))


def _asked(run: RunDirectory) -> dict[str, Any]:
    """What a run of one network was asked, as options."""
    return {key: value for key, value in run.request.items() if key in Request.model_fields}


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
