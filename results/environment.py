"""What a process runs on, found without importing any of the packages it names."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Packages whose versions decide what a run finds.
_PACKAGES = ("tinysearch", "torch", "optuna", "numpy", "moocore", "scikit-learn")


def environment(threads: int | None = None) -> dict[str, Any]:
    """What this process runs on: versions, platform, processors."""
    return {
        "started": now(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": threads,
    }


def package_version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "checkout" if package == "tinysearch" else None  # used from its sources, not installed


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
