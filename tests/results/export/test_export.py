"""Exports: whole folders with manifests, by an exporter of a test."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from torch import nn

import tinysearch as ts
from tinysearch.core.errors import InputError, UnsupportedError
from tinysearch.core.registry import Registry
from tinysearch.results.export import EXPORTERS, MANIFEST, Exporter, Manifest, export
from tinysearch.spaces import methods
from tinysearch.testing import ExporterSuite
from tinysearch.testing.networks import SmallNet, make, traced


class Shapes(Exporter):
    """Writes the shapes of a network's tensors, for policies without masks."""

    summary: ClassVar[str] = "shapes of tensors"
    extra: ClassVar[str] = "tinysearch[shapes]"

    def lacks(self, policy: ts.UpdatePolicy) -> str:
        return "sign masks" if policy.sign_masks else ""

    def write(self, policy: ts.UpdatePolicy, backbone: nn.Module, out: Path) -> Sequence[Path]:
        (out / "more").mkdir()
        files = {out / "policy.json": policy.to_json(), out / "more" / "shapes.json": json.dumps(_shapes(backbone))}
        for path, text in files.items():
            path.write_text(text)
        return list(files)


class Failing(Shapes):
    """Fails when it has written a file."""

    wrong: ClassVar[BaseException] = RuntimeError("no space\nleft")

    def write(self, policy: ts.UpdatePolicy, backbone: nn.Module, out: Path) -> Sequence[Path]:
        super().write(policy, backbone, out)
        raise self.wrong


class NeedsMore(Failing):
    wrong = ModuleNotFoundError("No module named 'shapely'", name="shapely")


class Silent(Shapes):
    """Tells of no file."""

    def write(self, policy: ts.UpdatePolicy, backbone: nn.Module, out: Path) -> Sequence[Path]:
        super().write(policy, backbone, out)
        return []


def _shapes(backbone: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in backbone.state_dict().items()}


@pytest.fixture(autouse=True)
def exporters() -> Iterator[None]:
    kinds = {"shapes": Shapes, "failing": Failing, "needs-more": NeedsMore, "silent": Silent}
    for name, kind in kinds.items():
        EXPORTERS.add(name, kind)
    yield
    for name in kinds:
        EXPORTERS.remove(name)


class TestShapes(ExporterSuite):
    @pytest.fixture
    def name(self) -> str:
        return "shapes"


def test_there_is_no_such_exporter(tmp_path: Path) -> None:
    policy = methods.last(traced(SmallNet))
    with pytest.raises(InputError, match="no exporter named 'onnx': there are c, shapes, failing, needs-more, silent"):
        export(policy, make(SmallNet), to="onnx", out=tmp_path / "x")
    with pytest.raises(InputError, match="the exporter shapes has no option device: it has none"):
        export(policy, make(SmallNet), to="shapes", out=tmp_path / "x", device="rpi4")
    none: Registry[Exporter] = Registry("exporter", (), lambda thing: None)
    assert none.names().startswith("there is none; a package adds one by")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("failing", "the exporter 'failing' of this program failed: RuntimeError: no space left"),
        ("needs-more", r"exporting to needs-more needs shapely: pip install 'tinysearch\[shapes\]'"),
        ("silent", "the files that it names are not those that it wrote"),
    ],
)
def test_an_export_that_fails_is_one_line_and_leaves_nothing(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        export(methods.last(traced(SmallNet)), make(SmallNet), to=name, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    policy = methods.last(traced(SmallNet))
    files = ts.export(policy, make(SmallNet), to="shapes", out=tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["more/shapes.json", "policy.json", MANIFEST]
    manifest = Manifest.load(tmp_path / MANIFEST)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.versions.keys() == {"tinysearch", "torch"}
    with pytest.raises(UnsupportedError, match="shapes cannot express sign masks"):
        ts.export(methods.mobiletl(traced(SmallNet)), make(SmallNet), to="shapes", out=tmp_path / "x")
