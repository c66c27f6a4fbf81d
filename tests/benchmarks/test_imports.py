"""Every benchmark finds what it imports; what they print is theirs to check."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
FOLDERS = sorted({str(script.parent) for script in SCRIPTS})
#: Imports the scripts one after another, as importing torch takes longer than all of them.
DRIVER = """
import importlib, sys
folders, names = sys.argv[1].split(":"), sys.argv[2:]
sys.path[:0] = folders
for name in names:
    importlib.import_module(name)
"""


def test_every_benchmark_finds_what_it_imports() -> None:
    assert len(SCRIPTS) > 5
    names = [script.stem for script in SCRIPTS]
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning:__main__",
        "-c",
        DRIVER,
        ":".join([*FOLDERS, str(ROOT)]),
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
