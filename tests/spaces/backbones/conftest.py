"""What importing the backbones brings with it."""

import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest


@pytest.fixture
def imported() -> Callable[[str, Collection[str]], list[str]]:
    """Which of some packages a fresh interpreter has imported after some code."""

    def names_after(code: str, packages: Collection[str]) -> list[str]:
        script = f"import sys; {code}; print(*[name for name in {sorted(packages)!r} if name in sys.modules])"
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
        return done.stdout.split()

    return names_after
