"""A user's own small backbone, and tasks with it on scikit-learn's digits."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tinysearch.search.problem import Problem
from tinysearch.search.request import Request

USER = Path(__file__).resolve().parent.parent / "user"
sys.path.append(str(USER))  # for what tests import as they are collected
#: Few images and few steps: enough to run every line, not to learn much.
SMALL = {"shot": 5, "queries": 150, "steps": 4}


@pytest.fixture(autouse=True, scope="session")
def user_modules() -> Iterator[None]:
    """Make `tiny_net` importable, here and in processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(USER)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(USER), str(USER.parent.parent)]))
        yield
    sys.modules.pop("tiny_net", None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as the project does, so that sums come out the same to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    """Prepares a problem with `tiny_net` on digits; keyword arguments are fields of a request or of its proxy."""

    def make(**changes: Any) -> Problem:
        proxy = SMALL | {key: changes.pop(key) for key in ("episodes", *SMALL) if key in changes}
        values = {"backbone": "tiny_net:build", "weights": "none", "proxy": proxy}
        return Problem.of(Request.make(**(values | changes)))

    return make


@pytest.fixture(scope="session")
def problem(make_problem: Callable[..., Problem]) -> Problem:
    return make_problem()
