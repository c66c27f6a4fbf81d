"""Packages that add things by entry points, seen by the command line and the API; one of them is broken throughout."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "tests" / "plugin"
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
SEARCH = ["run", "--backbone", "acme-net", "--weights", "none", "--dataset", "stripes", "--device", "acme-board"]
SEARCH += ["--sampler", "acme-walk"]
SMALL = ["--trials", "14", "--shot", "5", "--queries", "60", "--steps", "3", "--jobs", "1"]


@pytest.fixture(scope="module")
def python(environment: dict[str, str], elsewhere: Path) -> Callable[..., Run]:
    """Python with some of the packages on its path."""

    def having(*packages: str) -> Run:
        paths = [*(str(PLUGINS / package) for package in packages), environment["PYTHONPATH"]]

        def run(*arguments: str) -> Done:
            return subprocess.run(
                [sys.executable, *arguments],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                cwd=elsewhere,
                env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
            )

        return run

    return having


@pytest.fixture(scope="module")
def acme(python: Callable[..., Run]) -> Run:
    """`tinysearch ARGUMENTS` where acme's package is installed."""
    run = python("acme")
    return lambda *arguments: run("-m", "tinysearch", *arguments)


@pytest.fixture(scope="module")
def broken(python: Callable[..., Run]) -> Run:
    """`tinysearch ARGUMENTS` where acme's package and a broken one are installed."""
    run = python("acme", "broken")
    return lambda *arguments: run("-m", "tinysearch", *arguments)


def test_what_is_declared_is_what_is_installed() -> None:
    installed = ConfigParser()
    installed.read(PLUGINS / "acme" / "acme_tinysearch-1.0.dist-info" / "entry_points.txt")
    declared = tomllib.loads((PLUGINS / "acme" / "pyproject.toml").read_text())["project"]["entry-points"]
    assert {group: dict(installed[group]) for group in installed.sections()} == declared


LISTED = {
    "acme-board": ["devices"],
    "acme-net": ["backbones"],
    "stripes": ["datasets"],
    "acme-top-2": ["methods", "--backbone", "acme-net", "--device", "acme-board"],
}


@pytest.mark.parametrize("name", LISTED)
def test_what_a_package_brings_is_listed(name: str, acme: Run, command: Run) -> None:
    done = acme(*LISTED[name], "-f", "json")
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = (record for record in json.loads(done.stdout) if name in record.values())
    assert record.get("input_size", 20) == 20
    without = command(LISTED[name][0], "-f", "json")
    assert name not in without.stdout


def test_helps_name_what_is_installed(acme: Run, command: Run) -> None:
    assert "nsga2, nsga3, gp, tpe, random or acme-walk" in acme("run", "--help").stdout
    assert "nsga2, nsga3, gp, tpe or random" in command("run", "--help").stdout


@pytest.fixture(scope="module")
def finished(acme: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("acme") / "run"
    done = acme(*SEARCH, *SMALL, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "acme-top-1: " in done.stderr
    assert "acme-top-2: " in done.stderr
    assert "warning" not in done.stderr
    return out


def test_a_search_uses_all_of_it(finished: Path, acme: Run) -> None:
    front = json.loads(acme("show", str(finished), "-f", "json").stdout)
    assert (front["run"]["device"], front["run"]["dataset"], front["run"]["backbone"]) == (
        "acme-board",
        "stripes",
        "acme-net",
    )
    policy = json.loads((finished / front["members"][0]["policy"]).read_text())
    assert (policy["backbone"], policy["training"]["optimizer"]) == ("acme-net", "rmsprop")
    assert json.loads((finished / "request.json").read_text())["request"]["sampler"] == "acme-walk"


def test_a_proxy_of_a_package_judges_and_checks_its_own_settings(acme: Run, command: Run, tmp_path: Path) -> None:
    arguments = ["run", "--backbone", "acme-net", "--weights", "none", "--trials", "6", "--proxy", "acme-count"]
    out = tmp_path / "run"
    done = acme(*arguments, "--steps", "3", "--jobs", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "request.json").read_text())["request"]["proxy"]["steps"] == 3
    front = json.loads((out / "front.json").read_text())
    assert front["run"]["proxy"] == "acme-count"
    assert {member["learning_rate"] for member in front["members"]} == {0.5}
    refused = acme(*arguments, "--episodes", "2")
    assert refused.returncode == 3
    assert "proxy.episodes" in refused.stderr
    assert "no proxy named 'acme-count'" in command("run", "--proxy", "acme-count").stderr


def test_an_accounting_of_a_package_counts(finished: Path, acme: Run) -> None:
    assert "sparse-update or acme-bytes" in " ".join(acme("methods", "--help").stdout.split())
    listed = acme(
        "methods", "--backbone", "acme-net", "--device", "acme-board", "--accounting", "acme-bytes", "-f", "json"
    )
    counts = {row["method"]: (row["trainable_parameters"], row["memory_bytes"]) for row in json.loads(listed.stdout)}
    assert counts["full"][0] == counts["full"][1] > counts["last"][1] > 0
    shown = acme("show", str(finished), "--accounting", "acme-bytes", "-f", "json")
    assert all(row["memory_bytes"] == row["trainable_parameters"] for row in json.loads(shown.stdout))


def test_members_are_inspected_verified_and_tuned(finished: Path, acme: Run, tmp_path: Path) -> None:
    member = json.loads((finished / "front.json").read_text())["members"][-1]
    inspected = acme("inspect", "--policy", str(finished / member["policy"]), "--device", "acme-board")
    assert inspected.returncode == 0, inspected.stderr
    by_name = acme("inspect", "--backbone", "acme-net", "--policy", "acme-top-1", "--device", "acme-board")
    assert "acme-top-1: trains the classifier and 1 whole weight" in by_name.stdout
    verified = acme("verify", str(finished), "-f", "json")
    assert verified.returncode == 0, verified.stderr
    assert {record["difference_bytes"] for record in json.loads(verified.stdout)} == {0}
    delta = tmp_path / "x.safetensors"
    tuned = acme("finetune", str(finished), "--policy", member["hash"], "--steps", "2", "--delta", str(delta))
    assert tuned.returncode == 0, tuned.stderr
    merged = acme("merge", str(delta), "--weights", "none", "--out", str(tmp_path / "y.safetensors"))
    assert merged.returncode == 0, merged.stderr


def test_a_run_without_its_package_says_what_is_missing(finished: Path, command: Run) -> None:
    assert command("show", str(finished)).returncode == 0
    done = command("finetune", str(finished))
    assert done.returncode == 3
    assert done.stderr.startswith("tinysearch: error: ")
    assert len(done.stderr.splitlines()) == 1


API = """
import json, sys, tinysearch as ts
from pathlib import Path
from tinysearch.search.screens import SCREENS
backbone = ts.load_backbone("acme-net", num_classes=3)
found = ts.trace(backbone, (3, 20, 20))
policy = ts.methods.find(found, "acme-top-2")
files = ts.export(policy, backbone, to="acme-json", out=sys.argv[1])
like = Path(sys.argv[1]).with_name("mine.yaml")
like.write_text("format: tinysearch.device\\nversion: 1\\nname: mine\\nlike: acme-board\\n")
print(json.dumps({
    "normalisation": backbone.normalisation, "size": backbone.input_size, "files": [file.name for file in files],
    "latency": ts.estimate(found, policy, ts.load_device(like), optimizer="rmsprop").latency_s,
    "same": ts.estimate(found, policy, ts.load_device("acme-board"), optimizer="rmsprop").latency_s,
    "data": len(ts.load_dataset("stripes").test), "screen": SCREENS["acme-depth"].origin,
}))
"""


def test_the_api_sees_the_same(python: Callable[..., Run], tmp_path: Path) -> None:
    done = python("acme")("-c", API, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["normalisation"] == [[0.4, 0.4, 0.4], [0.3, 0.3, 0.3]]
    assert (told["size"], told["data"], told["files"]) == (20, 90, ["trained.json", "manifest.json"])
    assert told["latency"] == told["same"] > 0
    assert told["screen"] == "acme-tinysearch"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["origin"], manifest["versions"]["acme-tinysearch"]) == ("acme-tinysearch", "1.0")


def test_what_a_package_brings_passes_the_suites(python: Callable[..., Run]) -> None:
    """As its author would run them."""
    conformance = str(PLUGINS / "acme" / "conformance.py")
    done = python("acme")("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(PLUGINS), conformance)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "failed" not in done.stdout


# --- a broken package -------------------------------------------------------------------------------------------------

FROM = "of broken-tinysearch"
USED = {
    "sampler": ([*SEARCH[:-1], "broken", *SMALL], f"the sampler 'broken' {FROM} failed: RuntimeError: this fails"),
    "backbone": (
        ["methods", "--backbone", "broken"],
        f"the backbone 'broken' {FROM}: fails failed: RuntimeError: this fails",
    ),
    "backbone of no function": (["methods", "--backbone", "seven"], f"the backbone 'seven' {FROM} is none: a int"),
    "data set": (
        ["run", "--dataset", "broken", *SMALL],
        f"the data set 'broken' {FROM} failed: RuntimeError: this fails",
    ),
    "data set that is gone": (["run", "--dataset", "gone"], f"the data set 'gone' {FROM} cannot be loaded"),
    "device": (["devices", "show", "broken"], f"broken.yaml {FROM}, line 5: batch: "),
}
CLASHES = {
    "sampler": (["run", "--help"], ["the sampler 'nsga2' {} is refused: tinysearch has that name"]),
    "backbone": (["backbones"], ["the backbone 'mobilenetv2-w0.5' {} is refused: tinysearch has that name"]),
    "data set": (["datasets"], ["the data set 'digits' {} is refused", "the data set 'gone' {} cannot be loaded"]),
    "device": (
        ["devices"],
        ["the device 'rpi4' {} is refused", "the device 'teensy4.1' {} is refused", "batch: input should be a valid"],
    ),
    "method": (
        ["methods", "--backbone", "tiny_net:build", "--weights", "none"],
        ["the method 'full' {} is refused", "the method 'broken' {} is left out for tiny_net:build: RuntimeError"],
    ),
}


@pytest.mark.parametrize("kind", USED)
def test_what_is_broken_is_one_clear_line_when_it_is_used(kind: str, broken: Run) -> None:
    arguments, said = USED[kind]
    done = broken(*arguments)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("tinysearch: error: ")
    assert said in error


@pytest.mark.parametrize("kind", CLASHES)
def test_clashes_are_refused_with_a_warning_and_nothing_else_is_disturbed(kind: str, broken: Run, acme: Run) -> None:
    arguments, warned = CLASHES[kind]
    done = broken(*arguments)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("tinysearch: warning: ") for line in done.stderr.splitlines())
    for warning in warned:
        assert warning.format(FROM) in done.stderr
    if arguments[0] in ("devices", "methods"):
        assert done.stdout == acme(*arguments).stdout


def test_a_broken_package_does_not_disturb_what_does_not_use_it(broken: Run, command: Run) -> None:
    for arguments in (
        ["--help"],
        ["show", "nowhere"],
        ["inspect", "--backbone", "tiny_net:build", "--weights", "none"],
    ):
        done = broken(*arguments)
        assert done.stdout == command(*arguments).stdout
        assert "Traceback" not in done.stderr
