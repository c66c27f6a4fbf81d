"""Calibrating: from a machine, or the results of a board, to a written profile."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.environment import passed_on
from ...core.errors import BusyError, InputError, TinySearchError
from ...core.files import write_atomically
from ..profile.writer import write_profile
from .assemble import Calibration, make_profile
from .results import Results, parse_results, read_results
from .standalone import busy_cores, jitter

#: Cores' worth of others' work, and unevenness of short work, from which a machine is busy. Sharing a processor with
#: other virtual machines makes it up to about 2 uneven, whatever runs here: the profile says what that cost.
BUSY_CORES, JITTER = 0.3, 2.5
#: Most bytes of a worker's last words that are shown.
LAST_WORDS = 300

Progress = Callable[[float], None]


def calibrate(
    jobs: Callable[[], dict[str, Any]],
    out: Path,
    *,
    force: bool = False,
    keep: Path | None = None,
    progress: Progress = lambda share: None,
) -> Calibration:
    """Measure this machine and write its profile.

    Args:
        jobs: Says what to measure, as `make_jobs` does; called when nothing speaks against measuring.
        out: The YAML file to write.
        force: Measure although the machine is busy.
        keep: File to keep the raw results in.
        progress: Called with the share that is done.

    Raises:
        BusyError: Other programs run, and `force` is not given.
        InputError: A file cannot be written, or what was measured is too little.
    """
    name = _profile_name(out)
    for path in (out, keep):
        check_writable(path)
    if not force:
        refuse_busy()
    results = _measure(jobs(), progress)
    if keep is not None:
        write_atomically(keep, json.dumps(results))
    return _write(parse_results(results, "this machine's results"), name, out, "this machine's results")


def from_results(results: Path, out: Path) -> Calibration:
    """Make a profile of what a board has measured.

    Raises:
        InputError: The results are none, or a file cannot be written.
    """
    name = _profile_name(out)
    check_writable(out)
    return _write(read_results(results), name, out, str(results))


def refuse_busy() -> None:
    """Refuse to measure on a machine that other programs keep busy.

    Raises:
        BusyError: They do; says how much and what to do.
    """
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    way_out = "end other programs and wait a moment, or measure all the same with force"
    busy = busy_cores()
    if busy is not None and busy > BUSY_CORES:
        raise BusyError(f"other programs keep {busy:.1f} of {os.cpu_count()} cores busy ({load}): {way_out}", "force")
    uneven = jitter()
    if uneven > JITTER:
        raise BusyError(
            f"the same short work takes {uneven:.1f} times as long now and then ({load}): {way_out}", "force"
        )


def _measure(jobs: dict[str, Any], progress: Progress) -> Any:
    """Run the jobs in a process of their own, whose memory and threads are nobody else's."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "jobs.json"), Path(folder, "results.json")
        write_atomically(asked, json.dumps(jobs))
        # The child finds tinysearch, and a backbone of the user's own, where this process does.
        paths = [path or str(Path.cwd()) for path in sys.path]
        environment = passed_on(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS=str(jobs["threads"]))
        command = [sys.executable, "-m", "tinysearch.devices.calibrate.worker", str(asked), str(answered)]
        with (
            Path(folder, "stderr").open("w+b") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    progress(float(line))
                code = process.wait()
            except BaseException:
                process.kill()
                raise
            if code or not answered.is_file():
                errors.seek(0)
                last = errors.read()[-4096:].decode(errors="replace").strip().splitlines()
                reason = last[-1][:LAST_WORDS] if last else f"exit code {code}, perhaps for want of memory"
                raise TinySearchError(f"the process that measures ended early: {reason}")
        return json.loads(answered.read_text(encoding="utf-8"))


def _write(results: Results, name: str, out: Path, origin: str) -> Calibration:
    calibration = make_profile(results, name, origin)
    write_atomically(out, write_profile(calibration.profile))
    return calibration


def _profile_name(out: Path) -> str:
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: a profile's file ends in .yaml")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", out.stem).lstrip("._-")[:64]
    if not name:
        raise InputError(f"{out}: a profile is named after its file: use letters and digits")
    return name


def check_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before minutes are spent on what it is to hold.

    Raises:
        InputError: It is a folder, or in none, or there is no right to write it.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: choose another file")
