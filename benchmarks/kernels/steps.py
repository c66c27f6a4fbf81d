"""Instructions of whole training steps that the C export writes, counted on an emulated Cortex-M7.

python benchmarks/kernels/steps.py [--save]

Each policy is exported, its program compiled as its makefile does, and run in QEMU, which counts instructions. Kept are
the instructions of the last of three steps on one image, after a check that its loss is a number. The latency model of
profile cortex-m7 takes two numbers from them (`benchmarks/fit_cortex_m7_code.py`).
"""

import argparse
import json
import math
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

import tinysearch as ts

MEASURED = Path(__file__).resolve().parents[1] / "measured" / "cortex_m7_steps.json"
#: Networks at a size, and methods; what exceeds the RAM of the board runs in the emulator all the same.
STEPS = (
    *(("mobilenetv2-w0.35", 96, name) for name in ("last", "sparse-update-0", "sparse-update-2", "bias", "tinytl-L")),
    *(("mobilenetv2-w0.35", 96, name) for name in ("mobiletl-2", "mobiletl-5", "norm+last")),
    *(("mobilenetv2-w0.35", 48, name) for name in ("last", "bias", "full")),
    *(("mcunet-5fps", 96, name) for name in ("last", "sparse-update-1", "bias")),
    *(("proxylessnas-w0.3", 96, name) for name in ("last", "sparse-update-1", "mobiletl-1")),
    *(("mobilenetv3-small", 96, name) for name in ("last", "bias", "mobiletl-2")),
)
#: A free-running counter of the emulated board, at 25 MHz; an instruction takes a nanosecond of its time.
COUNTER, INSTRUCTIONS_A_TICK = "0x40028018u", 40
MAIN = """
#include <stdint.h>
#include "@NAME@_example.h"
#include "console.h"
#define COUNTER (*(volatile uint32_t *)@COUNTER@)
int main(void)
{
    float loss = 0.0f;
    uint32_t ticks = 0;
    @NAME@_init();
    for (int step = 0; step < 3; step++) {
        ticks = COUNTER;
        if (@NAME@_example_step(0, &loss) != 0)
            return 1;
        ticks = COUNTER - ticks;
    }
    console_text("ticks ");
    console_integer((long)ticks);
    console_text(" loss ");
    console_number(loss);
    console_text("\\n");
    return 0;
}
"""


def count(name: str, size: int, method: str) -> int:
    """Instructions of a step.

    Raises:
        SystemExit: The program fails.
    """
    torch.manual_seed(0)
    backbone = ts.load_backbone(name, num_classes=10, input_size=size)
    policy = ts.methods.named(ts.trace(backbone, (3, size, size)))[method]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "program")
        ts.export(policy, backbone, to="c", out=out, device="cortex-m7", name="net", learning_rate=1e-4)
        main = MAIN.replace("@NAME@", "net").replace("@COUNTER@", COUNTER)
        (out / "main.c").write_text(main)
        flags = "-M mps2-an500 -nographic -monitor none -serial none -icount shift=0 "
        flags += "-semihosting-config enable=on,target=native"
        command = ["make", "-s", "qemu-demo", "QEMU_RAM=4096K", f"QEMU_FLAGS={flags}"]
        run = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    found = re.search(r"ticks (\d+) loss (\S+)", run.stderr)
    if run.returncode or not found or not math.isfinite(float(found[2])):
        raise SystemExit(f"{name} at {size} px, {method}: {run.stderr[-400:]}")
    return int(found[1]) * INSTRUCTIONS_A_TICK


def main() -> None:
    """Count, print, and store if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help=f"write {MEASURED.name}")
    save = parser.parse_args().save
    steps: list[dict[str, Any]] = []
    for name, size, method in STEPS:
        steps.append({"backbone": name, "size": size, "method": method, "instructions": count(name, size, method)})
        print(f"{name:20} {size:4} px {method:16} {steps[-1]['instructions'] / 1e6:8.1f} M instructions", flush=True)
    if save:
        lines = ",\n".join(f"  {json.dumps(step)}" for step in steps)
        MEASURED.write_text(f'{{"command": "python benchmarks/kernels/steps.py --save", "steps": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
