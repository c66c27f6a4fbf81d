"""The package list is complete, and files import only from their own floor or below."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["spaces", "devices", "results", "search", "tinysearch"]
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def test_every_package_folder_is_listed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in SOURCES if path.name == "__init__.py"}
    expected = {f if f.startswith("tinysearch") else f"tinysearch.{f.replace('/', '.')}" for f in folders}
    assert set(setuptools["packages"]) == expected
    assert set(setuptools["package-dir"]) == expected


def test_every_source_folder_is_a_package():
    for path in SOURCES:
        assert (path.parent / "__init__.py").is_file(), f"{path} lies in a folder without __init__.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_stay_on_their_floor_or_below(path):
    package = path.relative_to(ROOT).parent.parts
    allowed = FLOORS[: FLOORS.index(package[0]) + 1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            target = (*above, *(node.module or "").split("."))[0]
            if package[0] == "tinysearch":
                continue  # the front door may import everything
            assert target in allowed, f"line {node.lineno} imports {target}"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any((name or "").split(".")[0] == "tinysearch" for name in names), (
                f"line {node.lineno}: imports inside the package are relative"
            )
