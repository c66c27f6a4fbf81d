"""What was measured of networks, as text."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from families import NAMES

#: What is recorded of the machine: the libraries that networks come from.
LIBRARIES = ("timm", "torchvision", "torch")


def read(out: Path) -> list[dict[str, Any]]:
    """What was measured."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def cells(line: dict[str, Any]) -> list[str]:
    """A network's row of the table."""
    start = [line["network"], f"{line['parameters'] / 1e6:.2f} M" if "parameters" in line else ""]
    if "bytes" not in line:
        return [*start, f"refused: {line['refused']}" if "refused" in line else f"FAILED: {line['failed']}"]
    exact = [case["as_predicted"] for case in line["bytes"]]
    shape = [f"{line['input_size']} px", str(line["rows"]), str(line["blocks"]), str(line["by_themselves"])]
    covered = "100 %" if line["covered"] == 1 else f"{100 * line['covered']:.2f} %"
    found = [covered, f"{sum(exact)} of {len(exact)}", f"{line['gradients']:.0e}"]
    return [*start, *shape, *found, f"{line['trace_seconds']:.1f} s", f"{line['step']['ratio']:.2f}"]


def markdown(lines: list[dict[str, Any]]) -> None:
    """Print the table, in the order of `NAMES`."""
    place = {name: number for number, name in enumerate(NAMES)}
    lines = sorted(lines, key=lambda line: place.get(line["network"], len(place)))
    taken = [line for line in lines if "bytes" in line]
    exact = [line for line in taken if all(case["as_predicted"] for case in line["bytes"])]
    worst = max(line["gradients"] for line in taken)
    ratios = [line["step"]["ratio"] for line in taken]
    used = sorted({", ".join(f"{name} {own}" for name, own in line["versions"].items() if own) for line in lines})
    print(
        f"{len(taken)} of {len(lines)} networks are taken, {len(exact)} of them keep what is predicted to the byte in "
        f"every case; the largest difference of a gradient is {worst:.0e}, the median step time / plain "
        f"{median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}); {'; '.join(used)}\n"
    )
    print(
        "| network | parameters | input | rows | blocks | by themselves | trained by `full` | bytes as predicted ",
        end="",
    )
    print("| gradients | tracing | step / plain |\n| --- |" + " ---: |" * 10)
    for line in taken:
        print("| `" + "` | ".join([line["network"], " | ".join(cells(line)[1:])]) + " |")
    if len(taken) < len(lines):
        print("\n| not taken | parameters | why |\n| --- | ---: | --- |")
    for line in lines:
        if "bytes" not in line:
            print(f"| `{line['network']}` | {' | '.join(cells(line)[1:])} |")
