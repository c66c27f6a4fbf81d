"""What readers do with made-up files of every kind: whether they refuse them in one line, how long, in how much memory.

    python benchmarks/hostile.py [--only KIND,...] [--verbose]

Each file of `hostile_files` is read in a process of its own, forked where everything is imported, by the command or
the function that users call. Must: no traceback, an error of TinySearch in one line or a success, a second, 1 GiB.
"""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hostile_files
from hostile_files import Hostile, Valid

#: What a reader may take, in seconds of a processor and bytes, and after what wall time it is killed.
SECONDS, MEMORY, KILL = 1.0, 1 << 30, 30.0
#: What a file leaves if it was run.
RUN = Path("/tmp/tinysearch-was-run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="kinds, with commas between them")
    parser.add_argument("--verbose", action="store_true", help="show every file")
    options = parser.parse_args()
    import tinysearch.search.run  # noqa: F401  # what the children would import

    kinds = set(options.only.split(",")) if options.only else None
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        valid = make_valid(Path(folder, "valid"))
        for file in hostile_files.files(Path(folder, "hostile"), valid, kinds):
            verdict, seconds, peak, said = measure(file, valid, Path(folder))
            found[file.kind, verdict] += 1
            if options.verbose or verdict not in ("refused", "read"):
                print(f"{file.kind:12}{verdict:10}{seconds:6.2f} s {peak >> 20:5} MiB  {file.what}: {said}", flush=True)
    verdicts = sorted({verdict for _, verdict in found})
    print(f"{'kind':12}" + "".join(f"{verdict:>11}" for verdict in verdicts))
    for kind in sorted({kind for kind, _ in found}):
        print(f"{kind:12}" + "".join(f"{found[kind, verdict]:11}" for verdict in verdicts))
    print(f"{'all':12}" + "".join(f"{sum(n for (_, v), n in found.items() if v == w):11}" for w in verdicts))
    if RUN.exists():
        print("SOMETHING WAS RUN")


def make_valid(folder: Path) -> Valid:
    """Files as TinySearch writes them."""
    import tinysearch as ts
    from tinysearch.devices.calibrate.results import RESULTS
    from tinysearch.spaces.policy import Channels, LayerUpdate, LiteUpdate, NormUpdate

    small = {"shot": 2, "queries": 30, "steps": 1}
    run = folder / "run"
    ts.run(device="rpi4", dataset="digits", input_size=32, trials=1, rescore=0, proxy=small, out=run, jobs=1)
    backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32, weights="bundled")
    policy = ts.UpdatePolicy(
        backbone="mobilenetv2-w0.35",
        input_shape=(3, 32, 32),
        head="classifier.1",
        layers=(LayerUpdate(name="features.2.conv.0.0", weight=Channels(axis="out", index=(0, 2))),),
        norms=(NormUpdate(name="features.2.conv.0.1", scale=True, shift=True),),
        lite_residuals=(LiteUpdate(block="features.4", in_channels=8, out_channels=16, stride=2, kernel=3),),
    )
    last = ts.methods.last(ts.trace(backbone, (3, 32, 32)))
    network = {"backbone": "mobilenetv2-w0.35", "input_size": 32}
    step = {"network": 0, "policy": last.to_json()}
    machine = {"processor": "a", "cores": 1, "governor": None, "temperature": None, "load": 0.0, "memory": 1, "disk": 1}
    results = {
        "machine": machine | {"available": 1, "allocator": {}},
        **{"temperature_after": None, "torch": "2", "device": "cpu", "threads": 1, "freed_memory_kept": False},
        "elapsed": 1.0,
        "jobs": {"layers": "tinysearch", "batch": 8, "optimizer": "adam", "networks": [network], "steps": [step]},
        "steps": [{"step": 0, "seconds": [0.1], "forward": {}, "backward": {}}],
        "memory": [{"step": 0, "baseline": 1, "growth": 1}],
    }
    return Valid(
        run,
        policy.to_json(),
        Path(ts.__file__).parent.parent.joinpath("devices", "profiles", "rpi4.yaml").read_text(),
        last.delta(ts.apply(backbone, last)),
        RESULTS.text(results),
    )


def measure(file: Hostile, valid: Valid, folder: Path) -> tuple[str, float, int, str]:
    """Have a file read: verdict, seconds, bytes of memory at the peak, and what was said."""
    act = reading(file, valid, folder)
    said = Path(folder, "said")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _child(act, said)
    begun = time.monotonic()
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - begun
        if pid:
            break
        if seconds > KILL:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            break
        time.sleep(0.005)
    waited, seconds = seconds, usage.ru_utime + usage.ru_stime  # what others do on this machine does not count
    code = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * 1024
    text = said.read_text(errors="replace") if said.exists() else ""
    lines = text.strip().splitlines()
    errors = [line for line in lines if not line.startswith("tinysearch: warning:")]
    if waited > KILL:
        verdict = "hangs"
    elif "Traceback" in text or code in (1, 2) or code < 0:
        verdict = "traceback"
    elif peak > MEMORY:
        verdict = "memory"
    elif seconds > SECONDS and code:
        verdict = "slow"
    elif code and len(errors) != 1:
        verdict = "lines"
    else:
        verdict = "refused" if code else "accepted"
    last = lines[-1] if lines else f"exit code {code}"
    return verdict, seconds, peak, ascii(last[:160])


def _child(act: Callable[[], object], said: Path) -> None:
    code = 99
    try:
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from tinysearch import cli
        from tinysearch.core.errors import TinySearchError

        try:
            warnings.simplefilter("ignore")
            act()
            code = 0
        except TinySearchError as error:
            print(f"tinysearch: error: {error.told(cli._flag)}")
            code = error.exit_code
        except SystemExit as end:
            code = int(end.code or 0)
        except OSError as error:
            print(f"OSError: {error.filename}: {error.strerror}")
            code = 3 if error.filename else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reading(file: Hostile, valid: Valid, folder: Path) -> Callable[[], object]:
    """What reads a file: a command, or a function of the library."""
    path, out = file.path, folder / "out"
    if file.kind in ("policy", "weights"):
        return command("inspect", f"--{file.kind}", path)
    if file.kind == "profile":
        return command("devices", "show", path)
    if file.kind == "config":
        return lambda: _config(path)
    if file.kind == "delta":
        return command("merge", path, "--out", folder / "merged.safetensors")
    if file.kind == "results":
        return command("calibrate", "--from", path, "--out", folder / "p.yaml")
    if file.kind == "manifest":
        return lambda: _manifest(path)
    if file.kind == "state":
        return lambda: _state(path)
    if file.kind in ("front", "request", "environment", "study"):
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(valid.run, run)
        (run / path.name).unlink()
        if path.is_symlink() and path.readlink() == path:
            (run / path.name).symlink_to(run / path.name)
        else:
            path.rename(run / path.name)
        if file.kind == "environment":
            return lambda: _resume(run)
        verb = {"front": ["show"], "request": ["verify"], "study": ["plot", "-o", folder / "f.png"]}[file.kind]
        return command(verb[0], run, *verb[1:])
    if file.kind == "cifar":
        return lambda: _dataset("cifar10", path.parent)
    assert out is not None
    return lambda: _dataset(str(path), None)


def command(*arguments: str | Path) -> Callable[[], object]:
    def act() -> None:
        from tinysearch.cli import main

        sys.argv = ["tinysearch", *map(str, arguments)]
        main()

    return act


def _config(path: Path) -> None:
    from tinysearch.commands.run import command
    from tinysearch.core.errors import InputError, TinySearchError
    from tinysearch.core.text import printable

    try:
        command.main(["-c", str(path), "--dataset", "nowhere"], standalone_mode=False)
    except TinySearchError as error:
        if "nowhere" not in str(error) or path.name in str(error):
            raise InputError(printable(str(error))) from error


def _manifest(path: Path) -> None:
    from tinysearch.results.export import Manifest

    Manifest.load(path)


def _state(path: Path) -> None:
    from tinysearch.search.meta_training.state import StateFile

    StateFile(path.with_suffix(""), {}).load()


def _resume(run: Path) -> None:
    from tinysearch.results.rundir import RunDirectory

    asked = RunDirectory.load(run).request
    RunDirectory.open(run, asked).close()


def _dataset(name: str, data_dir: Path | None) -> None:
    from tinysearch.search.data import load_dataset

    dataset = load_dataset(name, data_dir, download=False)
    for split in (dataset.train, dataset.test):
        split.load(range(min(6, len(split))), 32)


if __name__ == "__main__":
    main()
