"""Exported programs, compiled and run here, beside the applied model that they must equal."""

import atexit
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch

import tinysearch as ts
from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.results.export.c.examples import Examples
from tinysearch.results.export.c.golden import Training, train
from tinysearch.spaces.engine.apply import apply

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: Debian's packages for the emulated board.
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
STEPS = 20
#: Trains, keeps what was trained in a file, and checks what a block does; prints losses and logits.
DRIVER = """
#include <stdio.h>
#include <string.h>
#include "NET_example.h"
static unsigned char block[NET_DELTA_BYTES], again[NET_DELTA_BYTES];
int main(int count, char **arguments)
{
    float trained[NET_CLASSES], logits[NET_CLASSES], loss;
    if (count != 2 || NET_example_predict(0, logits) != NET_NOT_READY)
        return 1;
    NET_init();
    for (int n = 0; n < IMAGES; n++) {
        if (NET_example_step(n % NET_EXAMPLES, &loss) != NET_OK)
            return 2;
        printf("%a\\n", (double)loss);
    }
    if (NET_export_delta(block, sizeof block - 1) != NET_TOO_SMALL || NET_export_delta(block, sizeof block) != NET_OK)
        return 3;
    FILE *file = fopen(arguments[1], "wb");
    if (file == NULL || fwrite(block, 1, sizeof block, file) != sizeof block || fclose(file) != 0)
        return 4;
    NET_example_predict(0, trained);
    NET_reset();
    NET_example_predict(0, logits);
    if (memcmp(trained, logits, sizeof logits) == 0)
        return 5;
    block[NET_DELTA_BYTES - 9] ^= 1;
    if (NET_import_delta(block, sizeof block) != NET_DAMAGED)
        return 6;
    block[NET_DELTA_BYTES - 9] ^= 1;
    block[20] ^= 1;
    if (NET_import_delta(block, sizeof block) != NET_OTHER_BASE)
        return 7;
    block[20] ^= 1;
    block[0] ^= 1;
    if (NET_import_delta(block, sizeof block) != NET_NO_DELTA)
        return 8;
    block[0] ^= 1;
    if (NET_import_delta(block, sizeof block) != NET_OK || NET_export_delta(again, sizeof again) != NET_OK)
        return 9;
    NET_example_predict(0, logits);
    if (memcmp(block, again, sizeof block) != 0 || memcmp(trained, logits, sizeof logits) != 0)
        return 10;
    for (int n = 0; n < NET_CLASSES; n++)
        printf("%a\\n", (double)logits[n]);
    return 0;
}
"""


@dataclass(frozen=True)
class Ran:
    """What a program did, and what PyTorch does."""

    losses: torch.Tensor
    logits: torch.Tensor
    block: bytes
    expected: torch.Tensor
    model: torch.fx.GraphModule
    examples: Examples


def device(**levers: object) -> DeviceProfile:
    """The microcontroller in single precision, by another schedule."""
    found = load_device("cortex-m7")
    memory = found.memory.model_copy(update={"schedule": Schedule(**levers)})
    return found.model_copy(update={"name": "other-schedule", "memory": memory})


def run(backbone, policy, folder: Path, rate: float = 0.05, batch: int = 1, optimizer: str = "sgd", **options) -> Ran:
    """Export, compile with sanitizers and every warning an error, and run."""
    need("gcc")
    training = Training(batch, optimizer, rate, STEPS)
    given = {"learning_rate": rate, "batch": batch, "optimizer": optimizer, "name": "NET"}
    ts.export(policy, backbone, to="c", out=folder, **given, **options)
    (folder / "driver.c").write_text(DRIVER.replace("IMAGES", str(STEPS * batch)))
    sources = ["driver.c", "NET.c", "NET_data.c", "NET_example.c", str(_kernels())]
    subprocess.run(["gcc", *STRICT, *SANITIZED, *sources, "-lm", "-o", "driver"], cwd=folder, check=True)
    done = subprocess.run(["./driver", "block"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[:2000]}"
    numbers = torch.tensor([float.fromhex(line) for line in done.stdout.split()])
    examples = Examples.of(policy.input_shape, len(numbers) - STEPS * batch, backbone)
    model = apply(backbone, policy).train()
    expected = torch.tensor(train(model, examples, training))
    count = STEPS * batch
    return Ran(numbers[:count], numbers[count:], (folder / "block").read_bytes(), expected, model.eval(), examples)


@cache
def _kernels() -> Path:
    """The kernels, compiled once: they are the same for all programs."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    source = files("tinysearch.results.export.c.kernels").joinpath("ts_kernels.c")
    subprocess.run(["gcc", *STRICT, *SANITIZED, "-c", str(source), "-o", folder / "ts_kernels.o"], check=True)
    return folder / "ts_kernels.o"


def need(*programs: str) -> None:
    """Skip where a program is missing, and name what brings it."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install --no-install-recommends make gcc clang {PACKAGES}")
