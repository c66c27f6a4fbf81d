"""The command line in processes of its own, and one finished run to show."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
Commands = Callable[[list[list[str]]], list[Done]]
#: Calls the entry point for one command after another, as importing torch takes longer than most of them.
DRIVER = """
import contextlib, io, json, sys
from tinysearch.cli import main
for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the repository."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="session")
def environment(elsewhere: Path) -> dict[str, str]:
    """Variables of a user who has neither caches nor a network."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TINYSEARCH")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "user")]),
        "XDG_CACHE_HOME": str(elsewhere / "cache"),
        "COLUMNS": "160",
        # Nothing is fetched: the discard port of this machine answers nobody.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    return environment


@pytest.fixture(scope="session")
def commands(elsewhere: Path, environment: dict[str, str]) -> Commands:
    """Several commands in one process, one after another."""

    def run(several: list[list[str]]) -> list[Done]:
        process = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(several),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=elsewhere,
            env=environment,
        )
        assert process.returncode == 0, process.stderr
        answers = [json.loads(line) for line in process.stdout.splitlines()]
        return [
            subprocess.CompletedProcess(arguments, *answer) for arguments, answer in zip(several, answers, strict=True)
        ]

    return run


@pytest.fixture(scope="session")
def command(elsewhere: Path, environment: dict[str, str]) -> Command:
    """`python -m tinysearch ARGUMENTS`."""

    def run(*arguments: str, cwd: Path | None = None) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "tinysearch", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=cwd or elsewhere,
            env=environment,
        )

    return run


@pytest.fixture(scope="session")
def run_dir(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run, made by a configuration file and options; its path would be wrong as markup."""
    folder = tmp_path_factory.mktemp("run")
    out = folder / "[bold]" / "[" / "red]"
    config = folder / "options.yaml"
    config.write_text(
        "backbone: tiny_net:build\nweights: none\nshot: 20\nqueries: 200\nsteps: 40\njobs: 1\n"
        "max-latency: 500ms\ntrials: 99\n"
    )
    done = command("run", "-c", str(config), "--trials", "7", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "[7/7]" in done.stderr  # an option given beside the file wins
    assert f"kept in {out}" in done.stderr
    assert "front.json" in done.stdout
    return out
