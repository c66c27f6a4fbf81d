"""`tinysearch meta-train` in a process of its own: progress, what it writes, resuming after a kill."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
TASKS = ("--way", "5", "--shot", "2", "--queries", "2")
ARGUMENTS = ("meta-train", "--backbone", "tiny_net:build", "--weights", "none", "--source", "digits", *TASKS)


def test_it_tells_how_it_goes_and_writes_weights_that_a_run_takes(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = command(*ARGUMENTS, "--out", str(out), "--episodes", "4", "--augmentation", "none")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("[0/4] held-out accuracy ")
    assert lines[1].startswith("trying the rate 0.0001: held-out accuracy ")
    assert lines[-1].startswith("[4/4] held-out accuracy ")
    summary, use = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert summary.startswith("3 of 10 classes held out: accuracy ")
    assert use == f"{out}: use it: tinysearch run --backbone tiny_net:build --weights {out}"
    small = ("--shot", "2", "--queries", "20", "--steps", "1", "--trials", "2", "--jobs", "1")
    run = command("run", *use.split()[5:], *small, "--out", str(tmp_path / "run"))
    assert run.returncode == 0, run.stderr


@pytest.mark.timed
def test_a_killed_process_goes_on(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "m.pth"
    arguments = [*ARGUMENTS, "--out", str(out), "--episodes", "10", "--learning-rate", "0.001"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tinysearch", *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[4/10]"):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    process.wait(60)
    assert not out.exists()
    again = subprocess.run(
        [sys.executable, "-m", "tinysearch", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert not any(line.startswith(("[0/20]", "[4/10]")) for line in again.stderr.splitlines())
    assert again.stderr.splitlines()[-1].startswith("[10/10]")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("m.")] == ["m.pth"]
