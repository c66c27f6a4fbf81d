"""The package list is complete, and files import only from their own floor or below."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Low to high; the folder that each lies in.
FLOORS = ["tinysearch/core", "spaces", "devices", "results", "search", "tinysearch"]
SOURCES = sorted(path for floor in FLOORS[1:] for path in (ROOT / floor).rglob("*.py"))


def test_every_package_folder_is_listed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in SOURCES if path.name == "__init__.py"}
    expected = {
        f"tinysearch.{f}".removeprefix("tinysearch.").replace("/", ".") for f in folders if f.startswith("tinysearch")
    }
    expected |= {f"tinysearch.{f.replace('/', '.')}" for f in folders if not f.startswith("tinysearch")}
    assert set(setuptools["packages"]) == expected
    assert set(setuptools["package-dir"]) == expected


def test_every_source_folder_is_a_package():
    for path in SOURCES:
        assert (path.parent / "__init__.py").is_file(), f"{path} lies in a folder without __init__.py"


def floor_of(parts):
    """The number of the floor that a path, relative to the root and in parts, lies on."""
    return FLOORS.index("tinysearch/core" if tuple(parts[:2]) == ("tinysearch", "core") else parts[0])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_stay_on_their_floor_or_below(path):
    # In the package, the top-level folders lie beside the front door's own files.
    inside = path.relative_to(ROOT).parent.parts
    package = inside[1:] if inside[0] == "tinysearch" else inside
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            if target[0] in FLOORS:
                assert floor_of(target) <= floor_of(inside), f"line {node.lineno} imports {'.'.join(target)}"
            elif target[0] != "core":
                assert floor_of(inside) == len(FLOORS) - 1, f"line {node.lineno} imports from the front door"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any((name or "").split(".")[0] == "tinysearch" for name in names), (
                f"line {node.lineno}: imports inside the package are relative"
            )


def test_a_package_that_bears_a_public_functions_name_has_no_module_of_that_name():
    """An import of that module would put it in the function's place."""
    for name in ("trace", "measure", "delta", "profile"):
        for folder in ROOT.rglob(f"*/{name}"):
            if folder in {path.parent for path in SOURCES}:
                assert not (folder / f"{name}.py").exists()


def imports():
    """Per module, the modules of the package that it imports, at its top or inside its functions."""
    modules = {}
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if parts[0] == "tinysearch" else parts
        modules[parts[:-1] if parts[-1] == "__init__" else parts] = path
    found = {}
    for name, path in modules.items():
        package = name if path.stem == "__init__" else name[:-1]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = (*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ()))
                targets = {(*base, alias.name) for alias in node.names}
                found[name] |= {target if target in modules else base for target in targets} - {name}
    return found


def test_no_circle_of_imports_but_the_lazy_ones_of_a_policy():
    """`policy.apply(model)` and `policy.delta(model)` reach the engine when they are called, and not before."""
    graph = imports()
    graph["spaces", "policy"] -= {("spaces", "engine", "apply"), ("spaces", "delta")}
    list(TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle
