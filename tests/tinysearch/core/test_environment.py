"""Processes that are started are given what they need, and nothing that may be a secret."""

import pytest

from tinysearch.core.environment import passed_on


def test_secrets_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "DATABASE_URL", "PASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("TINYSEARCH_CACHE", "here")
    passed = passed_on(PYTHONPATH="x")
    assert "secret" not in passed.values()
    assert (passed["OMP_NUM_THREADS"], passed["TINYSEARCH_CACHE"], passed["PYTHONPATH"]) == ("3", "here", "x")
