"""Fuzzes the readers of users' files, guided by coverage: whatever the bytes, they are read or refused.

    pip install atheris
    python benchmarks/fuzz.py --minutes 60 [--only KIND,...] [--finds FOLDER]

Begins with files as TinySearch and others write them. A find is another exception than TinySearch's, a file that takes
more than a second of a processor, or more memory than a process may have; each kind of find is kept once in the folder.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import mutations

SECONDS, MEMORY_MIB = 1.0, 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", help="kinds, with commas between them")
    parser.add_argument("--finds", type=Path, default=Path("finds"), help="folder for files that were finds")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.finds.mkdir(parents=True, exist_ok=True)
    if options.worker:
        fuzz(*options.worker, options.finds, options.minutes)
        return
    kinds = options.only.split(",") if options.only else list(ENDINGS)
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        for kind in kinds:
            command = [sys.executable, __file__, "--worker", kind, folder, "--finds", str(options.finds)]
            begun = time.monotonic()
            done = subprocess.run(
                [*command, "--minutes", str(options.minutes / len(kinds))], capture_output=True, text=True, check=False
            )
            found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            covered = re.findall(r"cov: (\d+)", done.stderr)
            finds = [line for line in done.stdout.splitlines() if line.startswith("find: ")]
            minutes, files = (time.monotonic() - begun) / 60, found[1] if found else "?"
            result = f"{files:>9} files, coverage {(covered or ['?'])[-1]}, {len(finds)} finds"
            print(f"{kind:10}{minutes:6.1f} min {result}, exit code {done.returncode}", flush=True)
            print("\n".join(finds) or "", end="\n" if finds else "")
            if done.returncode:
                print(done.stderr[-1500:])


def fuzz(kind: str, folder: str, finds: Path, minutes: float) -> None:
    """Fuzz one reader in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["tinysearch"]):
        read = reader(kind)
        from tinysearch.core.errors import TinySearchError
    warnings.simplefilter("ignore")
    path = Path(tempfile.mkdtemp()) / f"file{ENDINGS[kind]}"
    known: set[str] = set()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        begun, said = time.process_time(), ""
        try:
            read(path)
        except TinySearchError as error:
            if "\n" in str(error):
                said = f"several lines: {type(error).__name__}"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:100]!a}"
        if not said and time.process_time() - begun > SECONDS:
            said = "slow"
        key = said.split(": ")[0]
        if said and key not in known:
            known.add(key)
            (finds / f"{kind}-{len(known)}{ENDINGS[kind]}").write_bytes(data)
            print(f"find: {kind}: {said}", flush=True)

    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(sorted(Path(folder, kind).iterdir())):
        (corpus / str(number)).write_bytes(seed.read_bytes())
    limits = [f"-max_total_time={int(minutes * 60)}", "-timeout=30", f"-rss_limit_mb={MEMORY_MIB}", "-max_len=400000"]
    change = INSIDE.get(ENDINGS[kind])

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        if change is None or seed % 3 == 0:
            return bytes(atheris.Mutate(data, most))
        return change(data, seed // 3, atheris.Mutate)[:most]

    said = ["-print_final_stats=1", f"-artifact_prefix={finds}/"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *said], one, custom_mutator=mutated)
    atheris.Fuzz()


#: By kind, how the names of its files end.
ENDINGS = {
    "policy": ".json",
    "front": ".json",
    "request": ".json",
    "results": ".json",
    "manifest": ".json",
    "profile": ".yaml",
    "config": ".yaml",
    "delta": ".safetensors",
    "weights": ".safetensors",
    "pth": ".pth",
    "npz": ".npz",
    "zip": ".zip",
    "tar": ".tar",
    "targz": ".tar.gz",
    "image": ".png",
    "cifar": ".bin",
    "study": ".db",
}

#: By ending, what changes a file without breaking what it is.
INSIDE = {
    ".json": mutations.json_text,
    ".safetensors": mutations.safetensors,
    **dict.fromkeys((".npz", ".zip", ".pth"), mutations.zipped),
}


def reader(kind: str) -> Callable[[Path], object]:
    """What reads a file of a kind."""
    import tinysearch as ts
    from tinysearch.core.files import read_text
    from tinysearch.core.yaml_text import parse_yaml
    from tinysearch.devices.calibrate.results import read_results
    from tinysearch.results.export import Manifest
    from tinysearch.results.rundir import RUN_FORMAT, RunFile
    from tinysearch.results.trials import TrialStore
    from tinysearch.search.data.cifar_batch import read_python_batch
    from tinysearch.search.data.images import ImageFile, decode
    from tinysearch.spaces.backbones.checkpoint import read_checkpoint
    from tinysearch.spaces.delta import read_delta

    def images(path: Path) -> None:
        dataset = ts.load_dataset(str(path))
        dataset.train.load(range(min(3, len(dataset.train))), 8)

    def study(path: Path) -> None:
        with TrialStore.load(path) as store:
            store.all()

    readers: dict[str, Callable[[Path], object]] = {
        "policy": ts.UpdatePolicy.load,
        "front": ts.Front.load,
        "request": lambda path: RUN_FORMAT.read(RunFile, read_text(path), str(path)),
        "results": read_results,
        "manifest": Manifest.load,
        "profile": ts.load_device,
        "config": lambda path: parse_yaml(read_text(path), str(path)),
        "delta": read_delta,
        "weights": read_checkpoint,
        "pth": read_checkpoint,
        "image": lambda path: decode(ImageFile(str(path), path)),
        "cifar": lambda path: read_python_batch(path.read_bytes(), str(path)),
        "study": study,
    }
    return readers.get(kind, images)


def write_corpus(folder: Path) -> None:
    """Files as they are written, small ones, in a folder for each kind."""
    import io
    import pickle
    import tarfile
    import zipfile

    import hostile
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save

    valid = hostile.make_valid(folder / "valid")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1], np.uint8)
    picture = Image.fromarray(pixels[0])

    def packed(kind: str) -> bytes:
        stream = io.BytesIO()
        names = [f"{group}/{number}.png" for group in "ab" for number in range(2)]
        if kind == "zip":
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    archive.writestr(name, encoded("PNG"))
        else:
            with tarfile.open(fileobj=stream, mode="w" if kind == "tar" else "w:gz") as tar:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size = len(encoded("PNG"))
                    tar.addfile(info, io.BytesIO(encoded("PNG")))
        return stream.getvalue()

    def encoded(form: str, mode: str = "RGB") -> bytes:
        stream = io.BytesIO()
        picture.convert(mode).save(stream, form)
        return stream.getvalue()

    def saved(content: object, **how: bool) -> bytes:
        stream = io.BytesIO()
        torch.save(content, stream, **how)
        return stream.getvalue()

    def npz(write: Callable[..., None]) -> bytes:
        stream = io.BytesIO()
        write(stream, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
        return stream.getvalue()

    state = {"a.weight": torch.zeros(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}
    small = valid.delta[:8] + valid.delta[8 : 8 + int.from_bytes(valid.delta[:8], "little")]
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    profile = "format: tinysearch.device\nversion: 2\nname: mine\nlike: rpi4\n"
    corpus: dict[str, list[bytes]] = {
        "policy": [valid.policy.encode(), *(f.read_bytes() for f in (valid.run / "policies").iterdir())],
        "front": [(valid.run / "front.json").read_bytes()],
        "request": [(valid.run / "request.json").read_bytes()],
        "results": [valid.results.encode()],
        "manifest": [b'{"format":"tinysearch.export","version":1,"exporter":"c","files":[]}'],
        "profile": [valid.profile.encode(), profile.encode()],
        "config": [b"trials: 3\nbackbone: a\nmax-memory: 3KiB\n", b"a: {b: [1, 2.5, true]}\n? x\n: y\n"],
        "delta": [small, save(state)],
        "weights": [save(state)],
        "pth": [saved(state), saved({"state_dict": state}, _use_new_zipfile_serialization=False)],
        "npz": [npz(np.savez), npz(np.savez_compressed)],
        "zip": [packed("zip")],
        "tar": [packed("tar")],
        "targz": [packed("targz")],
        "image": [encoded(form) for form in ("PNG", "JPEG", "BMP", "PPM", "WEBP", "GIF", "TIFF")]
        + [encoded("PNG", mode) for mode in ("L", "P", "RGBA", "1", "LA")],
        "cifar": [pickle.dumps(batch, protocol) for protocol in (2, 4)],
        "study": [(valid.run / "study.db").read_bytes()],
    }
    for kind, seeds in corpus.items():
        (folder / kind).mkdir()
        for number, seed in enumerate(seeds):
            (folder / kind / str(number)).write_bytes(seed)


if __name__ == "__main__":
    main()
