"""The C kernels as a shared library of the host, called by ctypes."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from kernel_calls import KERNELS, SANITIZERS, STRICT


@pytest.fixture(scope="session")
def compiler() -> str:
    found = os.environ.get("CC", "cc")
    if shutil.which(found) is None:
        pytest.skip(f"no C compiler '{found}': install gcc (Debian: apt-get install gcc libc6-dev)")
    return found


@pytest.fixture(scope="session")
def kernels(compiler, tmp_path_factory) -> ctypes.CDLL:
    """The library, with sanitizers where test_sanitizers.py runs these tests anew."""
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    flags = SANITIZERS if os.environ.get("TINYSEARCH_TEST_SANITIZERS") else []
    command = [compiler, *STRICT, *flags, "-shared", "-fPIC", str(KERNELS / "ts_kernels.c"), "-o", str(library), "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))
