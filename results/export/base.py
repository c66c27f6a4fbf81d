"""What an exporter is, and the export of a policy by one.

`EXPORTERS` has them by name; a package adds its own by an entry point `tinysearch.exporters`.
"""

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ...core.errors import ConflictError, InputError, UnsupportedError
from ...core.files import move_durably, temporary_path
from ...core.registry import Entry, Registry
from ...spaces.policy import UpdatePolicy
from ..environment import package_version
from .manifest import MANIFEST, ExportedFile, Manifest

if TYPE_CHECKING:
    from torch import nn


class Exporter(ABC):
    """Writes a policy and its backbone in another program's format.

    The keyword arguments of a subclass's constructor are its options, which `export` hands on; each has a default.

    Attributes:
        summary: What it writes, in a line.
        extra: What `pip install` takes for the packages that it needs besides; empty where it needs none.
    """

    summary: ClassVar[str]
    extra: ClassVar[str] = ""

    def lacks(self, policy: UpdatePolicy) -> str:
        """What of a policy it cannot express, in words, as "sign masks"; empty where it can express all of it."""
        return ""

    @abstractmethod
    def write(self, policy: UpdatePolicy, backbone: "nn.Module", out: Path) -> Sequence[Path]:
        """Write the files.

        Args:
            policy: A policy that it lacks nothing of.
            backbone: The network that the policy is for; to be left unchanged.
            out: An empty folder, which is moved to its place when all is written.

        Returns:
            The files that it wrote, all of them in `out`.
        """

    def predicted(self) -> Mapping[str, int]:
        """Bytes that what was written last takes on the device, by what they are for; empty where it does not know."""
        return {}


def _check(thing: object) -> None:
    if not isinstance(thing, Exporter) and not (isinstance(thing, type) and issubclass(thing, Exporter)):
        raise TypeError(f"a {type(thing).__name__}, where an Exporter, or a subclass of it, is needed")


#: All exporters, by name: objects, or classes that are made without arguments.
EXPORTERS: Registry[Exporter | type[Exporter]] = Registry(
    "exporter",
    [
        Entry.at(
            "c",
            "results.export.c.exporter:CExporter",
            "C99 that trains on a Cortex-M7: one arena, no heap, a self-test against PyTorch",
        )
    ],
    _check,
)


def export(policy: UpdatePolicy, backbone: "nn.Module", *, to: str, out: str | Path, **options: Any) -> list[Path]:
    """Write a policy and its backbone in another program's format.

    Args:
        policy: What trains.
        backbone: The network that it is for, with its weights.
        to: Name of the exporter.
        out: The folder to write; a new or an empty one.
        **options: Of the exporter, as its constructor takes them: of `c` those of `results.export.c.CExporter`.

    Returns:
        The files in the folder: the exporter's, and last `manifest.json`, which has a digest of each of them, of the
        policy and of the backbone.

    Raises:
        InputError: There is no such exporter, it has no such option, it needs a package that is not installed, or it
            fails.
        UnsupportedError: The exporter cannot express something of the policy.
        ConflictError: The folder holds something.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.export(ts.methods.bias(trace), backbone, to="abacus", out="build")
        Traceback (most recent call last):
            ...
        tinysearch.core.errors.InputError: no exporter named 'abacus': ...
    """
    from ...spaces.engine.origin import base_digest

    made = EXPORTERS.load(to)
    _check_options(made, to, options)
    with EXPORTERS.blaming(to):
        exporter = cast(Callable[..., Exporter], made)(**options) if isinstance(made, type) else made
        lacking = exporter.lacks(policy)
    if lacking:
        raise UnsupportedError(f"{to} cannot express {lacking}: choose a policy without, or another exporter")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConflictError(f"{out} is there and not empty: choose another folder to export to", "out")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_path(out)
    folder.mkdir()
    try:
        files = _write(exporter, to, policy, backbone, folder)
        manifest = Manifest(
            exporter=to,
            origin=EXPORTERS[to].origin,
            versions=_versions("tinysearch", "torch", EXPORTERS[to].origin),
            policy_hash=policy.hash,
            policy_sha256=hashlib.sha256(policy.to_json().encode()).hexdigest(),
            base_sha256=base_digest(backbone, policy.head),
            files=tuple(ExportedFile.of(folder, file) for file in files),
            predicted_bytes=dict(exporter.predicted()),
        )
        manifest.save(folder / MANIFEST)
        if out.exists():
            out.rmdir()
        move_durably(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return [*(out / file.path for file in manifest.files), out / MANIFEST]


def _check_options(made: Exporter | type[Exporter], to: str, options: Mapping[str, Any]) -> None:
    known = [
        name
        for name, parameter in (signature(made).parameters.items() if isinstance(made, type) else ())
        if parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    for name in options:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"the exporter {to} has no option {name}: {there}", name)


def _write(exporter: Exporter, to: str, policy: UpdatePolicy, backbone: "nn.Module", folder: Path) -> list[Path]:
    """Have the files written; all that are there must be told of."""
    with EXPORTERS.blaming(to):
        try:
            told = [Path(file) for file in exporter.write(policy, backbone, folder)]
        except ModuleNotFoundError as error:
            if not exporter.extra:
                raise
            raise InputError(f"exporting to {to} needs {error.name}: pip install '{exporter.extra}'") from error
        there = {path for path in folder.rglob("*") if path.is_file()}
        if {file.resolve() for file in told} != {file.resolve() for file in there}:
            raise ValueError("the files that it names are not those that it wrote")
    return sorted(there)


def _versions(*packages: str) -> dict[str, str]:
    """Versions of packages; of this one's sources, used without an install, and of a program's own exporter none."""
    found = {package: package_version(package) for package in packages}
    return {package: version for package, version in found.items() if version is not None}
