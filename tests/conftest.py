"""Fixtures shared by all tests, and the order that they run in."""

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest
import torch

# The tests' networks are small: more threads would only wait for each other.
torch.set_num_threads(1)

# The same examples every time, so that a red test is red for everyone; HYPOTHESIS_PROFILE=random looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("random", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of the tests' own, in processes that they start as well."""
    os.environ["TINYSEARCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a file's tests share a process, timed ones another, and start with the files that take longest."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not item.get_closest_marker("timed"), item.path not in slow))
    for item in items:
        group = "timed" if item.get_closest_marker("timed") else str(item.path.relative_to(_ROOT))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real weights and images, or a skip that says how to name it."""
    folder = Path(os.environ.get("TINYSEARCH_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set TINYSEARCH_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def libraries() -> None:
    """timm and torchvision, which can be imported from then on, whatever torchvision's own operators were built for."""
    from tinysearch.spaces.backbones.operators import declare_operators

    for name in ("timm", "torchvision"):
        assert importlib.util.find_spec(name), f"{name} is missing: install the extra 'dev', whose tests need it"
    declare_operators()
