"""The networks that a run is about: every backbone that was asked for at every input size, as a request of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import BudgetError, InputError
from ..results.networks import network_name
from ..results.rundir import RunDirectory
from ..spaces.backbones.choice import NO_WEIGHTS
from .problem import Problem
from .request import DEFAULT_BACKBONE, Request

#: Most networks of a run.
MOST = 16
#: Weights that are named alike for every backbone.
_FOR_ALL = ("bundled", "imagenet", NO_WEIGHTS)


def requests_of(
    backbone: str | Sequence[str] | None,
    input_size: str | int | Sequence[int] | None,
    weights: str | Mapping[str, str] | None,
    **others: Any,
) -> list[Request]:
    """One request for each network: the sizes of the first backbone, those of the second, and so on.

    Args:
        backbone: One or more names; in a text, with commas between them.
        input_size: One or more sides of the images in pixels, likewise.
        weights: See `weights_of`.
        **others: What else is asked, of all networks.

    Raises:
        InputError: A value is wrong, or asked of one network only.
    """
    backbones = [DEFAULT_BACKBONE if name is None else name for name in _listed("backbone", backbone)]
    sizes = [_pixels(size) for size in _listed("input_size", input_size)]
    files = weights_of(weights, backbones)
    requests = [
        Request.make(backbone=name, input_size=size, weights=files.get(name), **others)
        for name in backbones
        for size in sizes
    ]
    if len(requests) == 1:
        return requests
    first, count = requests[0], len(requests)
    if count > MOST:
        raise InputError(
            f"{len(backbones)} backbones at {len(sizes)} input sizes are {count} networks: a run has at most {MOST}"
        )
    if first.sampler != "auto":
        raise InputError(f"the sampler {first.sampler} searches one network, not {count}: leave out sampler", "sampler")
    if first.compare:
        raise InputError(f"the published methods of {count} networks are too many: leave out compare", "compare")
    if others.get("rescore"):
        raise InputError("what several networks found is not scored again: leave out rescore", "rescore")
    if first.trials < count:
        raise InputError(f"each of {count} networks is tried at least once: raise trials to {count} or more", "trials")
    return requests


def weights_of(stated: str | Mapping[str, str] | None, backbones: Sequence[str]) -> dict[str, str | None]:
    """The weights of each of some backbones, by its name.

    Args:
        stated: For one backbone what it is; for several, `bundled`, `imagenet` or `none` for all of them, or each one's
            own as a mapping, or as text: `NAME=FILE,NAME=FILE`. None, or nothing said of a backbone, leaves the choice.
        backbones: Their names.

    Raises:
        InputError: It is not said which backbone a file is for, or it is for none of them.

    Example:
        >>> weights_of("a=a.pth,b=bundled", ["a", "b"])
        {'a': 'a.pth', 'b': 'bundled'}
    """
    names = list(dict.fromkeys(backbones))
    if not isinstance(stated, Mapping) and (not isinstance(stated, str) or len(names) == 1 or stated in _FOR_ALL):
        return dict.fromkeys(names, stated)
    if isinstance(stated, str):
        # A file's name may have a comma in it.
        parts = re.split(rf",(?=(?:{'|'.join(re.escape(str(name)) for name in names)})=)", stated)
        pairs = [part.partition("=") for part in parts]
        if unclear := next((file or name for name, sign, file in pairs if not sign or name not in names), None):
            raise InputError(
                f"weights: which backbone is {unclear!r:.80} for? With several, weights={names[0]}=FILE, and a comma "
                "before the next",
                f"weights={names[0]}=FILE",
            )
        stated = {name: file for name, _, file in pairs}
    if unknown := next((name for name in stated if name not in names), None):
        raise InputError(f"weights: {unknown!r:.80} is none of the backbones {', '.join(names)}")
    return {name: stated.get(name) for name in names}


def backbones_of(run: RunDirectory) -> list[str]:
    """The backbone of each of a run's networks."""
    return [str(network.request.get("backbone")) for network in run.networks or (run,)]


def weights_for(network: RunDirectory, run: RunDirectory, stated: str | None) -> str | None:
    """The weights of one of a run's networks: what was stated for all of them, as of `weights_of`, or for it alone."""
    names = backbones_of(run)
    if stated is None or len(set(names)) == 1 or not stated.startswith(tuple(f"{name}=" for name in names)):
        return stated
    return weights_of(stated, names)[str(network.request.get("backbone"))]


def load_networks(requests: Sequence[Request]) -> tuple[list[Problem], list[str]]:
    """Load what several requests name, which differ in the network alone.

    All share their images and the point that hypervolumes are measured from: the largest costs of full fine-tuning.

    Returns:
        The problems of those networks that fit the device, by name and size whatever the order that they were asked in,
        and of each that does not a line that says so.

    Raises:
        InputError: A name or file is wrong, or a network is asked for twice.
        MissingDataError: Data or weights are missing.
        BudgetError: None of them fits.
    """
    problems: dict[str, Problem] = {}
    refused: list[BudgetError] = []
    for request in requests:
        try:
            problem = Problem.of(request, beside=tuple(problems.values()))
        except BudgetError as error:
            refused.append(error)
            continue
        name, size = problem.trace.name, problem.trace.input_shape[1]
        if network_name(name, size) in problems:
            raise InputError(f"{name} at {size} px is asked for twice: leave one out of backbone or input_size")
        problems[network_name(name, size)] = problem
    if not problems:
        raise BudgetError(f"none of {len(requests)} networks fits; the first: {refused[0]}", *refused[0].options)
    ordered = sorted(problems.values(), key=lambda problem: (problem.trace.name, problem.trace.input_shape))
    points = [problem.reference_point for problem in ordered]
    worst = {key: max(point[key] for point in points) for key in points[0]}
    return [replace(problem, reference=worst) for problem in ordered], [f"left out: {error}" for error in refused]


def _listed(name: str, stated: Any) -> list[Any]:
    """The entries of a list, or of a text with commas; None stands for itself."""
    if isinstance(stated, str):
        stated = [part.strip() for part in stated.split(",")]
    entries = list(stated) if isinstance(stated, list | tuple) else [stated]
    if not entries or "" in entries:
        raise InputError(f"request: {name}: there is an empty entry in it, or none", name)
    return entries


def _pixels(stated: Any) -> Any:
    """A size that is written as text, as a number."""
    if not isinstance(stated, str):
        return stated
    if not re.fullmatch(r"[0-9]{1,6}", stated, re.ASCII):
        raise InputError(f"request: input_size: {stated!r:.40} is no whole number of pixels", "input_size")
    return int(stated)
