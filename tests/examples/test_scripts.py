"""The example scripts run as their readers would run them: as programs, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(folder: Path, *arguments: str) -> str:
    paths = [str(ROOT), str(EXAMPLES)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_api_tour_measures_what_it_predicts(tmp_path):
    output = run(tmp_path, str(EXAMPLES / "api_tour.py"))
    saved = re.findall(r"^(predicted|measured): +([\d,]+) B saved", output, re.MULTILINE)
    assert [name for name, _ in saved] == ["predicted", "measured"]
    assert saved[0][1] == saved[1][1]


def test_own_backbone_is_found_with_its_blocks(tmp_path):
    command = ("-m", "tinysearch", "inspect", "--backbone", "own_backbone:build", "--weights", "none")
    layers = json.loads(run(tmp_path, *command, "--policy", "mobiletl-3", "-f", "json"))
    trained = [layer["layer"] for layer in layers if "weight" in layer["trains"]]
    assert trained == [f"units.{n}.{name}" for n in range(3) for name in ("depthwise", "pointwise")] + ["classifier"]


@pytest.mark.slow
def test_own_backbone_is_searched(tmp_path):
    command = ("-m", "tinysearch", "run", "--backbone", "own_backbone:build", "--weights", "none")
    few = ("--trials", "3", "--steps", "2", "--shot", "5", "--queries", "50", "--jobs", "1", "--out", "run")
    run(tmp_path, *command, "--dataset", "digits", *few)
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["members"]
    assert front["run"]["backbone"] == "own_backbone:build"


@pytest.mark.slow
def test_a_search_for_a_microcontroller_ends_in_a_program_that_trains_as_pytorch_does(tmp_path):
    for program in ("make", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program) is None:
            pytest.skip(
                f"{program} is missing: apt-get install make gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
            )
    output = run(tmp_path, str(EXAMPLES / "cortex_m7.py"), "--trials", "2", "--images", "20", "--out", "m7")
    found = re.search(r"^largest difference of a loss: (\S+); of PyTorch from itself .*: (\S+)$", output, re.MULTILINE)
    assert found
    assert float(found[1]) <= max(1e-4, 8.1 * float(found[2]))
    assert re.search(r"^right of 20 others +\d+ +\d+$", output, re.MULTILINE)
    ram = re.search(r"RAM: +(\d+) B +320 KB", output)
    assert ram
    assert int(ram[1]) <= 320 * 1024
