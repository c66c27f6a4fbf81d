"""Exporting what lies in files: a member of a run's front, with the run's network and images, or a policy's file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..core.errors import InputError
from ..results.export import export
from ..results.rundir import RunDirectory
from ..spaces.backbones import load_backbone
from ..spaces.backbones.choice import find_weights, named_backbone
from ..spaces.policy import UpdatePolicy
from .data.images import Subset
from .networks import weights_for
from .problem import Problem

#: Images of a run that an export which links some in gets, one of a class after another's.
IMAGES = 8


@dataclass(frozen=True)
class Exported:
    """An export.

    Attributes:
        policy: What was exported.
        files: The files that were written, the manifest last.
    """

    policy: UpdatePolicy
    files: tuple[Path, ...]


def export_from(
    source: str | Path,
    *,
    to: str,
    out: str | Path,
    policy: str = "best",
    backbone: str | None = None,
    weights: str | None = None,
    classes: int | None = None,
    data_dir: str | Path | None = None,
    **options: Any,
) -> Exported:
    """Export a member of a run's front, or the policy of a file.

    Args:
        source: The directory of a run, or a policy's file.
        to: Name of the exporter.
        out: The folder to write.
        policy: Of a run: `best`, the start of a hash, or a method's name.
        backbone: Of a policy's file: the backbone's name; None takes the one that it names, unless that is someone's
            own code.
        weights: `bundled`, `imagenet`, `none` or a file; of a run if it was a file that has moved.
        classes: Of a policy's file: outputs of the head; None takes 10.
        data_dir: Of a run: where data sets lie.
        **options: Of the exporter.

    Raises:
        InputError: A name, a file or an option is wrong.
        MissingDataError: Weights or data are missing.
        ConflictError: The folder holds something, or the weights are not those of the run.
        UnsupportedError: The exporter cannot express something of the policy.

    Example:
        >>> import tinysearch as ts
        >>> from tinysearch.search.exporting import export_from
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> policy = ts.methods.last(ts.trace(backbone, (3, 32, 32)))
        >>> _ = policy.save("last.json")
        >>> found = export_from("last.json", to="c", out="firmware", optimizer="sgd")
        >>> found.files[-1].name
        'manifest.json'
    """
    path = Path(source)
    if path.is_dir():
        if backbone is not None or classes is not None:
            stated = "backbone" if backbone is not None else "classes"
            raise InputError(f"{path} is a run, which has its own {stated}: leave out {stated}", stated)
        network, chosen, brought = _of_run(path, policy, data_dir, weights, to)
        options = brought | options
    else:
        if data_dir is not None or policy != "best":
            stated = "data_dir" if data_dir is not None else "policy"
            raise InputError(f"{path} is no run: leave out {stated}", stated)
        chosen = UpdatePolicy.load(path)
        name = named_backbone(backbone, chosen.backbone, str(path))
        size = chosen.side
        network = load_backbone(name, num_classes=classes or 10, input_size=size, weights=find_weights(name, weights))
    return Exported(chosen, tuple(export(chosen, network, to=to, out=out, **options)))


def _of_run(
    path: Path, policy: str, data_dir: str | Path | None, weights: str | None, to: str
) -> tuple[nn.Module, UpdatePolicy, dict[str, Any]]:
    """The network and the policy of a run, and for `c` its device and some of its images."""
    run = RunDirectory.load(path)
    member = run.front.find(policy)
    own = run.of(member)
    problem = Problem.of_run(own, data_dir, weights_for(own, run, weights))
    chosen = UpdatePolicy.load(run.policy_path(member))
    if to != "c":
        return problem.backbone, chosen, {}
    train, classes = problem.dataset.train, len(problem.dataset.classes)
    examples = Subset.balanced(train, -(-IMAGES // classes))
    images = examples.load(range(min(IMAGES, len(examples))), chosen.side)
    labels = examples.labels[: len(images)].tolist()
    return problem.backbone, chosen, {"device": problem.device, "images": images, "labels": labels}
