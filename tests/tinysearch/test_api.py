import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinysearch as ts

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ("torch", "ray", "optuna", "matplotlib", "numpy", "sklearn", "PIL", "pandas", "pydantic", "rich")


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has imported after some code."""
    script = f"import sys\n{code}\nprint('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("name", ts.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(ts, name).__doc__
    assert name in dir(ts)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        ts.serach  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_after("import tinysearch") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"sys.argv[1:] = {arguments!r}\nfrom tinysearch.cli import main\nmain()"
    assert loaded_after(code) == set()


def test_a_listing_of_names_needs_no_torch() -> None:
    assert not loaded_after("import tinysearch as ts\nts.list_devices()") & {"torch", "optuna", "matplotlib"}


def test_estimate_many_agrees_with_estimate_of_each() -> None:
    backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=10, input_size=32)
    space = ts.UpdateSpace(ts.trace(backbone, (3, 32, 32)))
    rows = space.sample(4, 0)
    device = ts.load_device("rpi4")
    many = ts.estimate_many(space, rows, device, batch=2)
    for n, row in enumerate(rows):
        one = ts.estimate(space.trace, space.decode(row), device, batch=2, optimizer=device.optimizer)
        assert (many.peak_bytes[n], many.saved_bytes[n], many.macs[n]) == (one.peak_bytes, one.saved_bytes, one.macs)
        assert np.isclose(many.latency_s[n], one.latency_s)


def test_load_run_names_the_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ts.TinySearchError, match="is no run"):
        ts.load_run(tmp_path)
