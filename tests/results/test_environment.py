import json
import subprocess
from pathlib import Path

import pytest

from tinysearch.results import environment as module
from tinysearch.results.environment import VARIABLES, checkout, environment, processor

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "HOME": "/home/eve",
    "TINYSEARCH_DATA": "/private",
    "HF_TOKEN": "hunter2",
}


def test_what_a_process_runs_on_is_said_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | {"OMP_NUM_THREADS": "3" * 1000}).items():
        monkeypatch.setenv(name, value)
    noted = environment(threads=1)
    assert {"python", "packages", "checkout", "processor", "variables", "threads"} <= noted.keys()
    assert set(noted["packages"]) >= {"tinysearch", "torch", "numpy", "optuna"}
    assert noted["variables"]["OMP_NUM_THREADS"] == "3" * 100
    assert set(noted["variables"]) <= set(VARIABLES)
    text = json.dumps(noted)
    assert not any(value in text for value in SECRETS.values())


def test_the_processor_has_a_name() -> None:
    assert processor() is None or 0 < len(processor() or "") <= 100


def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "results" / "environment.py"))

    def git(*arguments: str) -> None:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *named, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def seen() -> dict[str, object] | None:
        checkout.cache_clear()
        return checkout()

    assert seen() is None
    git("init", "-q")
    git("add", "pyproject.toml")
    git("commit", "-qm", "one")
    state = seen()
    assert state is not None
    assert (len(str(state["commit"])), state["changed"]) == (40, False)
    (tmp_path / "pyproject.toml").write_text("[project]")
    assert seen() == state | {"changed": True}
    checkout.cache_clear()
