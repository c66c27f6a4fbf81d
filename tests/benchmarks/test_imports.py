"""Every benchmark finds what it imports; what they print is theirs to check."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EVERY = sorted((ROOT / "benchmarks").rglob("*.py"))
#: A package is imported as one, by the name of its folder; its modules by it.
PACKAGES = [file.parent for file in EVERY if file.name == "__init__.py"]
SCRIPTS = [file for file in EVERY if file.parent not in PACKAGES]
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
    names = [path.stem for path in (*SCRIPTS, *PACKAGES)]
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
