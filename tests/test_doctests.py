"""The examples in docstrings run, and every public name has one."""

import doctest
import importlib
import inspect
import os
import tomllib
from pathlib import Path

import pytest

import tinysearch

ROOT = Path(__file__).resolve().parent.parent


def _modules() -> list[str]:
    """Modules that have an example, by the package list of pyproject.toml."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return sorted(
        package if path.stem == "__init__" else f"{package}.{path.stem}"
        for package, folder in folders.items()
        for path in (ROOT / folder).glob("*.py")
        if ">>>" in path.read_text(encoding="utf-8")
    )


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with the finished run that examples look at."""
    folder = tmp_path_factory.mktemp("desk")
    small = {"shot": 2, "queries": 20, "validation": 10, "steps": 1}
    tinysearch.run(dataset="digits", input_size=32, trials=2, proxy=small, jobs=1, out=folder / "runs" / "digits")
    return folder


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings_run(name: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setitem(os.environ, "COLUMNS", "120")
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        if example.examples:
            failed, _ = doctest.DocTestRunner(optionflags=flags).run(example)
            assert failed == 0, f"an example of {example.name} says something else: see above"


@pytest.mark.parametrize("name", [name for name in tinysearch.__all__ if name != "methods"])
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(tinysearch, name)) or "")


@pytest.mark.parametrize("name", tinysearch.methods.__all__)
def test_every_method_has_an_example(name: str) -> None:
    thing = getattr(tinysearch.methods, name)
    assert not callable(thing) or ">>>" in (inspect.getdoc(thing) or "")
