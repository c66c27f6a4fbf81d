"""Instructions of the C kernels on a Cortex-M7, in QEMU, against those of naive loops, after checking that they agree.

python benchmarks/kernels/instructions.py [--only pointwise] [--levels O2 O3] [--save]

Needs arm-none-eabi-gcc and qemu-system-arm (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm). QEMU
counts instructions, not cycles: it knows neither the two pipelines of the core nor its caches and flash.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
KERNELS = FOLDER.parents[1] / "results" / "export" / "c" / "kernels"
MEASURED = FOLDER.parent / "measured" / "cortex_m7_instructions.json"
COMPILER = "arm-none-eabi-gcc"
TARGET = ["-std=c99", "-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"]
LINKING = ["-nostartfiles", "--specs=nano.specs", "-T", str(FOLDER / "board.ld"), "-Wl,--gc-sections"]
QEMU = ["qemu-system-arm", "-M", "mps2-an500", "-nographic", "-monitor", "none", "-serial", "none"]
QEMU += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
#: Forward pass, gradient of the input, gradient of the weight.
DIRECTIONS = ("forward", "dx", "dw")


@dataclass(frozen=True)
class Case:
    """One kernel at one shape.

    Attributes:
        kernel: Class of the kernel: conv, depthwise, pointwise, linear, or the name of one without MACs; rows are the
            first layers of a MobileNetV2, and a block one of its inverted residuals: map by map instead of by naive
            loops, and row by row or four channels at a time.
        direction: One of `DIRECTIONS`, or "" of kernels without MACs.
        ins: Input channels.
        outs: Output channels.
        size: Side of a square output map.
        k: Side of the filter.
        stride: Stride.
        trains: What trains of the weight: nothing, all, out or in (every other channel along that axis).
    """

    kernel: str
    direction: str
    ins: int
    outs: int
    size: int
    k: int = 1
    stride: int = 1
    trains: str = "nothing"

    @property
    def job(self) -> str:
        """What measure.c calls it."""
        return "_".join(filter(None, (self.kernel, self.direction)))

    @property
    def outputs(self) -> int:
        """Elements of the output map."""
        return self.outs * self.size**2

    @property
    def work(self) -> int:
        """MACs as they are counted everywhere, padding included; elements of kernels that have none."""
        if self.kernel == "rows":
            at_stride_2, at_stride_4 = 3 * 16 * 9 + 16 * 9 + 16 * 8 + 8 * 48, 48 * 9 + 48 * 8
            return (4 * at_stride_2 + at_stride_4) * self.size**2
        if self.kernel == "block":
            return 6 * self.ins * (self.ins + 9 + self.outs) * self.size**2
        if not self.direction:
            return self.outputs
        return self.outputs * self.k**2 * (1 if self.kernel == "depthwise" else self.ins)

    @property
    def line(self) -> str:
        """The initialiser of its ts_conv_shape."""
        groups, pad, side = self.ins if self.kernel == "depthwise" else 1, self.k // 2, self.size * self.stride
        numbers = self.ins, self.outs, groups, self.k, self.k, self.stride, pad, pad, side, side, self.size, self.size
        return "{" + ", ".join(map(str, numbers)) + "}"

    def __str__(self) -> str:
        if self.kernel == "rows":
            return f"six layers of {4 * self.size}x{4 * self.size}"
        if self.kernel == "block":
            return f"{self.ins}->{6 * self.ins}->{self.outs} at {self.size}x{self.size}"
        if not self.direction:
            return f"{self.outs} x {self.size}x{self.size}"
        channels = f"{self.ins}" if self.kernel == "depthwise" else f"{self.ins}->{self.outs}"
        place = "" if self.kernel == "linear" else f" at {self.size}x{self.size}"
        filters = f" {self.k}x{self.k}/{self.stride}" if self.k > 1 else ""
        return f"{channels}{filters}{place}" + (f", {self.trains} trains" if self.trains in ("out", "in") else "")


def cases() -> list[Case]:
    """Shapes of MobileNets at 96 pixels, with maps of one, nine and 36 pixels, and odd ones."""
    found = []
    for direction in DIRECTIONS:
        trains = "all" if direction == "dw" else "nothing"
        for ins, outs, size, k, stride in [
            (3, 16, 48, 3, 2), (3, 8, 24, 3, 2), (3, 16, 32, 3, 1), (16, 16, 12, 3, 1), (16, 32, 6, 3, 2),
            (8, 8, 3, 5, 1)
        ]:  # fmt: skip
            found.append(Case("conv", direction, ins, outs, size, k, stride, trains))
        for channels, size, k, stride in [
            (8, 48, 3, 1), (48, 24, 3, 1), (48, 24, 3, 2), (96, 12, 3, 1), (96, 6, 3, 2), (192, 6, 3, 1),
            (336, 3, 3, 1), (48, 24, 5, 1), (48, 12, 5, 2), (96, 6, 5, 1), (16, 12, 7, 1)
        ]:  # fmt: skip
            found.append(Case("depthwise", direction, channels, channels, size, k, stride, trains))
        for ins, outs, size in [
            (8, 48, 24), (48, 8, 24), (16, 96, 12), (96, 16, 12), (32, 192, 6), (192, 32, 6), (56, 336, 3),
            (336, 112, 3), (15, 90, 5), (3, 5, 7)
        ]:  # fmt: skip
            found.append(Case("pointwise", direction, ins, outs, size, trains=trains))
        for ins, outs in [(1280, 10), (112, 100), (64, 16), (16, 64), (9, 5)]:
            found.append(Case("linear", direction, ins, outs, 1, trains=trains))
        if direction != "dw":
            found += [Case("pointwise", direction, 192, 32, 6, trains=axis) for axis in ("out", "in")]
            found += [Case("linear", direction, 112, 100, 1, trains=axis) for axis in ("out", "in")]
    for name in (
        "relu6", "relu6_mask", "mask_backward", "hardswish", "add", "axpy", "channel_sum", "scale_channels", "mean",
        "group_norm", "group_norm_dx", "avg_pool", "bilinear", "silu"
    ):  # fmt: skip
        sizes = [(16, 24), (96, 6)] if name == "bilinear" else [(16, 24), (96, 6), (336, 3)]
        found += [Case(name, "", channels, channels, size) for channels, size in sizes]
    found += [Case("rows", "", 3, 8, 24), Case("rows", "", 3, 8, 12)]
    found += [Case("block", "", ins, outs, size) for ins, outs, size in [(8, 8, 24), (32, 32, 6), (56, 56, 3)]]
    return found


def count(chosen: list[Case], level: str) -> list[tuple[int, int]]:
    """Instructions of the naive loops and of the kernel, of every case.

    Raises:
        SystemExit: If the answers of a case do not agree.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = (f'CASE({n}, {case.job}, "{case.trains}", {case.line})\n' for n, case in enumerate(chosen))
        Path(folder, "cases.inc").write_text("".join(lines))
        sources = [FOLDER / "measure.c", FOLDER / "naive.c", FOLDER / "board.c", KERNELS / "ts_kernels.c"]
        program = str(Path(folder, "measure.elf"))
        command = [COMPILER, *TARGET, f"-{level}", f"-I{KERNELS}", f"-I{FOLDER}", f"-I{folder}", *map(str, sources)]
        subprocess.run([*command, *LINKING, "-lm", "-o", program], check=True)
        run = subprocess.run([*QEMU, "-kernel", program], capture_output=True, text=True, check=False)
    answers = [line.split() for line in run.stderr.splitlines()]
    wrong = [str(chosen[int(answer[0])]) for answer in answers if answer[3] != "agree"]
    if run.returncode or wrong or len(answers) != len(chosen):
        raise SystemExit(f"-{level}: no agreement: {wrong or run.stderr[-300:]} (exit status {run.returncode})")
    return [(int(naive), int(fast)) for _, naive, fast, _ in answers]


def as_data(chosen: list[Case], counts: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """What is stored: how it was counted, and every count."""
    version = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    emulator = subprocess.run([QEMU[0], "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    rows = [
        {
            **asdict(case),
            "outputs": case.outputs,
            "work": case.work,
            "instructions": {level: dict(zip(("naive", "kernel"), counts[level][n], strict=True)) for level in counts},
        }
        for n, case in enumerate(chosen)
    ]
    return {
        "command": "python benchmarks/kernels/instructions.py --save",
        "what": "instructions of one call; work is MACs (padding included), or elements where there are none; 'naive' "
        "of rows and block are the kernels map by map",
        "compiler": version,
        "flags": TARGET,
        "emulator": emulator,
        "cases": rows,
    }


def text_of(data: dict[str, Any]) -> str:
    """JSON with a line for each case."""
    head = json.dumps({key: value for key, value in data.items() if key != "cases"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in data["cases"])
    return head.removesuffix("\n}") + f',\n "cases": [\n{rows}\n ]\n}}\n'


def main() -> None:
    """Count, print, and store if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--levels", nargs="+", default=["O2", "O3"], help="optimisation levels of the compiler")
    parser.add_argument("--save", action="store_true", help=f"write {MEASURED.name}")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case.job]
    counts = {level: count(chosen, level) for level in options.levels}
    print("instructions a MAC (an element where there are none): naive loops, kernel, ratio")
    print(f"{'kernel':<20}{'shape':<32}" + "".join(f"{'-' + level:>22}" for level in options.levels))
    for n, case in enumerate(chosen):
        cells = ""
        for level in options.levels:
            naive, fast = (total / case.work for total in counts[level][n])
            cells += f"{naive:9.2f}{fast:7.2f}{naive / fast:6.1f}"
        print(f"{case.job:<20}{case!s:<32}{cells}")
    if options.save:
        MEASURED.write_text(text_of(as_data(chosen, counts)))


if __name__ == "__main__":
    main()
