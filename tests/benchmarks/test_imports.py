"""Every benchmark finds what it imports; what they print is theirs to check."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
#: Imports the scripts one after another, as importing torch takes longer than all of them.
DRIVER = """
import importlib, sys
sys.path[:0] = sys.argv[1:3]
for name in sys.argv[3:]:
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
        str(ROOT / "benchmarks"),
        str(ROOT),
        *names,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
