"""Self-tests of exported programs: how far their losses are from PyTorch's after 20 steps.

python benchmarks/kernels/parity.py [--host] [--only mcunet] [--size 64] [--batch 1 4]

Every network under every policy, with one and with four images a step: on an emulated Cortex-M7, in as much RAM as the
emulator has, or with `--host` on this machine, the larger networks too. There programs are built by clang, and by gcc
with its checks of addresses and undefined behaviour; a warning of either is an error. Beside the worst difference of a
loss stands what the self-test allows: 1e-5, or eight times what PyTorch's losses differ by from their own when weights
change in the last digit. Ends with exit code 1 if one fails.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import tinysearch as ts
from tinysearch.spaces.policy import Channels, LayerUpdate

SMALL = ("mobilenetv2-w0.35", "mobilenetv2-w0.35-tf", "mobilenetv3-small", "mcunet-5fps", "proxylessnas-w0.3")
LARGE = ("mobilenetv2-w1.0", "mobilenetv2-w1.0-tf", "mobilenetv3-large", "proxylessnas-mobile")
EMULATED = (("qemu", "QEMU_RAM=4096K"),)
HERE = (
    ("selftest", "CC=clang", "CFLAGS=-O2 -Werror"),
    ("selftest", "CC=gcc", "CFLAGS=-O1 -Werror -fsanitize=address,undefined -fno-sanitize-recover"),
)
METHODS = ("last", "bias", "tinytl-L+B", "mobiletl-3", "sparse-update-1", "sparse-update-2")
RATE = 1e-3


def sliced(trace: ts.Trace, axis: str) -> ts.UpdatePolicy:
    """Every other channel of the last six convolutions that may be sliced."""
    layers = [layer for layer in trace.layers if layer.kind == "conv" and layer.sliceable][-6:]
    updates = []
    for layer in layers:
        count = layer.in_channels if axis == "in" else layer.out_channels
        updates.append(LayerUpdate(name=layer.name, weight=Channels(axis=axis, index=tuple(range(0, count, 2)))))
    return ts.methods.last(trace).model_copy(update={"layers": tuple(updates), "method": None})


def policies(trace: ts.Trace) -> Iterator[tuple[str, ts.UpdatePolicy]]:
    """Those of methods, slices along both axes, and two drawn ones."""
    named = ts.methods.named(trace)
    yield from ((name, named[name]) for name in METHODS if name in named)
    yield from ((f"sliced by {axis}puts", sliced(trace, axis)) for axis in ("in", "out"))
    space = ts.UpdateSpace(trace)
    for seed, row in enumerate(space.sample(2, seed=1)):
        yield f"drawn {seed}", space.decode(row)


def self_test(
    backbone: torch.nn.Module, policy: ts.UpdatePolicy, batch: int, builds: Sequence[Sequence[str]]
) -> tuple[float, float] | str:
    """Worst difference of a loss and the most that is allowed anywhere, or why there is no program.

    Args:
        backbone: The network.
        policy: What trains.
        batch: Images of a step.
        builds: What make is told, for each way that the program is built and run.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "program")
        try:
            ts.export(
                policy, backbone, to="c", out=out, device="cortex-m7", name="net", batch=batch, learning_rate=RATE
            )
        except ts.TinySearchError as error:
            return str(error)
        stated = (out / "net_selftest.c").read_text().partition("tolerances[] = {")[2].partition("}")[0]
        allowed = [float(number) for number in stated.replace("f", "").split(",") if number.strip()]
        worst = 0.0
        for build in builds:
            subprocess.run(["make", "-s", "clean"], cwd=out, check=True)
            run = subprocess.run(["make", "-s", *build], cwd=out, capture_output=True, text=True, check=False)
            if overflow := re.search(r"region `\w+' overflowed by \d+ bytes", run.stderr):
                return f"more than the emulator has: {overflow[0]}"
            found = re.search(r"pass: net, worst difference (\S+)", run.stdout + run.stderr)
            if run.returncode or not found:
                return f"FAILED: {' '.join(build)}: {(run.stderr.strip().splitlines() or ['no word'])[-1]}"
            worst = max(worst, float(found[1]))
    return worst, max(allowed)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="store_true", help="on this machine, the larger networks too")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="images a step")
    options = parser.parse_args()
    builds, networks = (HERE, SMALL + LARGE) if options.host else (EMULATED, SMALL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failed = 0
    for name in (network for network in networks if options.only in network):
        torch.manual_seed(0)
        backbone = ts.load_backbone(name, num_classes=10, input_size=options.size)
        for label, policy in policies(ts.trace(backbone, (3, options.size, options.size))):
            for batch in options.batch:
                began = time.monotonic()
                found = self_test(backbone, policy, batch, builds)
                said = found if isinstance(found, str) else f"{found[0]:.1e} of {found[1]:.1e} allowed"
                failed += isinstance(found, str) and found.startswith("FAILED")
                print(f"{name:22} {label:18} batch {batch}  {said}  ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
