"""What a process runs on, found without importing any of the packages it names."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Packages whose versions decide what a run finds.
_PACKAGES = ("tinysearch", "torch", "optuna", "numpy", "scipy", "pillow", "moocore", "scikit-learn")
#: Variables that decide how numbers are computed. No others are looked at: they may hold what is nobody's business.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
)
#: Longest value of one that is noted.
_LONGEST = 100


def environment(threads: int | None = None) -> dict[str, Any]:
    """What this process runs on: versions, platform, processors, and what decides how it computes."""
    return {
        "started": now(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "checkout": checkout(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": threads,
        "variables": {name: os.environ[name][:_LONGEST] for name in VARIABLES if name in os.environ},
    }


def package_version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "checkout" if package == "tinysearch" else None  # used from its sources, not installed


@cache
def processor() -> str | None:
    """The model of the processor, as the system names it; None where it does not."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
            return next(names, "")[:_LONGEST] or platform.processor() or None
    except OSError:  # not on Linux
        return platform.processor() or None


@cache
def checkout() -> dict[str, Any] | None:
    """The commit that this package is run from, and whether files differ from it; None where it is no checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None
    commit, changed = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed": None if changed is None else bool(changed)}


def _git(root: Path, *arguments: str) -> str | None:
    # Without locks: the user may be at work with git in the same checkout.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
