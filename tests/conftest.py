"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

# The tests' networks are small: more threads would only wait for each other.
torch.set_num_threads(1)

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real weights and images, or a skip that says how to name it."""
    folder = Path(os.environ.get("TINYSEARCH_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set TINYSEARCH_DATA to the folder that holds it")
    return folder
