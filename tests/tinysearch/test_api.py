import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinysearch as ts
from tinysearch.cli import VERBS

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


#: What the help of a verb may import: registries whose names it tells.
LIGHT = {"numpy", "pydantic"}
CALL = "sys.argv[1:] = {!r}\nfrom tinysearch.cli import main\nmain()"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_imports_nothing_heavy_and_looks_for_no_plug_ins(arguments: list[str]) -> None:
    code = "import importlib.metadata as m\nm.entry_points = None\n" + CALL.format(arguments)
    assert loaded_after(code) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_waits_for_nothing_heavy(verb: str) -> None:
    assert loaded_after(CALL.format([verb, "--help"])) <= LIGHT


@pytest.mark.parametrize(
    "code",
    [
        "ts.list_devices()",
        "ts.load_device('cortex-m7-int8')",
        "ts.list_datasets()",
        "ts.UpdatePolicy.from_json(POLICY)",
        "from tinysearch.search.request import Request\nRequest.make(trials=3)",
        "from tinysearch.spaces.optimizers import OPTIMIZERS\nlist(OPTIMIZERS)",
        "from tinysearch.search.samplers import SAMPLERS\nSAMPLERS.names()",
        "from tinysearch.search.screens import SCREENS\nSCREENS.names()",
        "from tinysearch.results.export import EXPORTERS\nlist(EXPORTERS)",
    ],
)
def test_names_policies_profiles_and_requests_need_no_torch(code: str) -> None:
    policy = ts.UpdatePolicy(backbone="b", input_shape=(3, 8, 8), head="fc").to_json()
    loaded = loaded_after(f"import tinysearch as ts\nPOLICY = {policy!r}\n{code}")
    assert not loaded & {"torch", "optuna", "matplotlib", "sklearn", "ray"}


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
