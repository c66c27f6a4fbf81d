"""Members of a finished run and what the run was asked for, loaded again from nothing but the run directory."""

from pathlib import Path

from ..core.errors import ConflictError, InputError
from ..results.records import Member
from ..results.rundir import RunDirectory
from ..search.problem import Task, identity, prepare
from ..search.request import Request


def find_member(run: RunDirectory, name: str, max_memory: str | None = None) -> Member:
    """A member of a run's front.

    Args:
        run: The run.
        name: `best`, the start of a hash, or a method's name.
        max_memory: With `best`: most peak training memory.

    Raises:
        InputError: There is no such member, or there are several.
    """
    return run.front.find(name, memory=max_memory)


def named_backbone(stated: str | None, named: str, source: str) -> str:
    """The backbone to build for a policy that someone may have handed on.

    Args:
        stated: The backbone that the user named, if any.
        named: The one that the policy names.
        source: Where the policy is from, for the message.

    Raises:
        InputError: The policy alone names code to run, module:function.
    """
    if stated is None and ":" in named:
        raise InputError(
            f"{source} is of a backbone that is no built-in one: say that its code may run, by --backbone {named}"
        )
    return stated or named


def load_task(run: RunDirectory, *, data_dir: Path | None, weights: str | None) -> Task:
    """The run's request with everything that it names loaded.

    Args:
        run: The run.
        data_dir: Where data sets lie, which a request does not keep.
        weights: The weights, if they were a file that has moved.

    Raises:
        InputError: A name or file is wrong.
        MissingDataError: Data or weights are missing.
        ConflictError: The weights are not those of the run.
    """
    stated = {key: value for key, value in run.request.items() if key in Request.model_fields}
    given = {"data_dir": data_dir, "weights": weights}
    task = prepare(Request.make(**(stated | {key: value for key, value in given.items() if value is not None})))
    if identity(task)["backbone_sha256"] != run.request["backbone_sha256"]:
        raise ConflictError(f"these are not the weights that {run.path} was searched with: give those as --weights")
    return task
