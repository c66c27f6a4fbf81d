"""Networks of timm, torchvision and this project: taken or not, bytes kept against those predicted, gradients, time.

Run: OMP_NUM_THREADS=1 python benchmarks/networks/examine.py [NAME ...] (needs timm and torchvision; half an hour)
     python benchmarks/networks/examine.py --markdown (prints the table of docs/your-model.md from what was measured)

A network that was measured already is left out unless it is named; each is kept as soon as it is done. Weights are
random and moved off zero, where many start, so that no gradient is zero. Images have 64 pixels where the network takes
that, else its own size.

- Bytes: `last`, `bias`, `full` and three random policies at batches of 2 and 4: whether each layer keeps what is
  predicted, to the byte, and the difference in all.
- Gradients: of `full` on frozen statistics, in double precision and in training mode, dropout at 0: the largest
  difference of any parameter from plain PyTorch, as a share of its largest gradient (of at least a millionth of the
  network's largest, since some are zero but for rounding, as that of a key's bias).
- Time: a step of `full` against plain PyTorch's on batches of 8, forward and backward, one thread, in turns.
"""

import argparse
import json
import math
import time
import traceback
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from families import CLASSES, NAMES, build
from table import LIBRARIES, cells, markdown, read
from torch import nn

import tinysearch as ts
from tinysearch.core.errors import TinySearchError
from tinysearch.devices.measure import Measurement
from tinysearch.devices.measure.meter import saved_tensors
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.spaces.engine import layers
from tinysearch.spaces.table import UpdateTable

MEASURED = Path(__file__).parent.parent / "measured" / "networks.jsonl"
SIZE, BATCHES, TIMED_BATCH = 64, (2, 4), 8
#: Turns of the timed steps: at most so many, and at most so many seconds of them.
TURNS, SECONDS = 9, 5.0


def moved(network: nn.Module) -> nn.Module:
    """The network with weights and statistics off zero and one, so that everything has a gradient."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
                module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=generator)
                module.running_var *= 0.75 + torch.rand(module.running_var.shape, generator=generator) / 2
    return network.eval()


def examine(make: Callable[[int | None], nn.Module]) -> dict[str, Any]:
    """What is to be told of a network, made for a size or for its own: what was measured, or why it is refused."""
    told: dict[str, Any] = {}
    for size in (SIZE, None):
        try:
            network = moved(make(size))
            told["parameters"] = sum(parameter.numel() for parameter in network.parameters())
            begun = time.perf_counter()
            trace = ts.trace(network, (3, network.input_size, network.input_size))
        except TinySearchError as error:
            told["refused"] = str(error)
            continue
        told.pop("refused", None)
        return told | {"trace_seconds": round(time.perf_counter() - begun, 2)} | measured(network, trace)
    return told


def measured(network: nn.Module, trace: ts.Trace) -> dict[str, Any]:
    """Bytes, gradients and times."""
    space, full = ts.UpdateSpace(trace), ts.methods.full(trace)
    policies = [ts.methods.last(trace), ts.methods.bias(trace), full, *map(space.decode, space.sample(3, seed=3))]
    model = ts.apply(network, full)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {
        "covered": trained / sum(parameter.numel() for parameter in network.parameters()),
        "input_size": trace.input_shape[1],
        "rows": len(trace),
        "blocks": len(trace.blocks),
        "by_themselves": sum(layer.kind == "parameter" for layer in trace),
        "step": step_times(model.train(), network, trace),
        "bytes": [case for policy in policies for case in kept(network, trace, policy)],
        "gradients": gradients(network, trace),
    }


def kept(network: nn.Module, trace: ts.Trace, policy: ts.UpdatePolicy) -> Iterable[dict[str, Any]]:
    """Bytes of a policy by batch, predicted and measured as `ts.measure` has them; and the first layers that differ."""
    model, table = ts.apply(network, policy).train(), UpdateTable.of(trace, [policy])
    for batch in BATCHES:
        tensors = saved_tensors(model, torch.randn(batch, *trace.input_shape), trace.index)
        (row,) = saved_bytes(table, batch)
        predicted = {trace.rows[place].name: int(row[place]) for place in trace.order if row[place]}
        told = Measurement(sum(tensor.bytes for tensor in tensors), tensors, 0.0, predicted)
        off = [
            (layer.name, layer.predicted_bytes, layer.measured_bytes)
            for layer in told.by_layer()
            if layer.predicted_bytes != layer.measured_bytes
        ]
        yield {
            "policy": policy.method or "random",
            "batch": batch,
            "predicted": told.predicted_bytes,
            "measured": told.saved_bytes,
            "as_predicted": told.as_predicted,
        } | ({"off": off[:5]} if off else {})


def gradients(network: nn.Module, trace: ts.Trace) -> float:
    """The largest difference of a gradient from plain PyTorch's, as a share; infinite where one is missing."""
    theirs, full = deepcopy(network).double(), ts.methods.full(trace)
    frozen = tuple(norm.model_copy(update={"statistics": False}) for norm in full.norms)
    ours = ts.apply(theirs, full.model_copy(update={"norms": frozen})).train()
    for module in ours.modules():
        if isinstance(module, layers.Dropout | nn.Dropout):
            module.p = 0.0
    images = torch.randn(BATCHES[1], *trace.input_shape, dtype=torch.float64)
    for model in (ours, theirs):
        F.cross_entropy(model(images), torch.arange(len(images))).backward()
    own = dict(ours.named_parameters())
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    if any(grad is None or own[name].grad is None for name, grad in expected.items()):
        return math.inf
    least = 1e-6 * max(float(grad.abs().max()) for grad in expected.values())
    return max(
        float((own[name].grad - grad).abs().max()) / max(float(grad.abs().max()), least)
        for name, grad in expected.items()
    )


def step_times(ours: nn.Module, network: nn.Module, trace: ts.Trace) -> dict[str, float]:
    """Seconds of forward and backward pass, ours and plain PyTorch's, and the median of their ratio."""
    theirs = deepcopy(network).train()
    images, labels = torch.randn(TIMED_BATCH, *trace.input_shape), torch.arange(TIMED_BATCH) % CLASSES

    def seconds(model: nn.Module) -> float:
        model.zero_grad()
        begun = time.perf_counter()
        F.cross_entropy(model(images), labels).backward()
        return time.perf_counter() - begun

    turns: list[tuple[float, float]] = []
    warm = seconds(ours) + seconds(theirs)
    while len(turns) < TURNS and (len(turns) < 3 or warm * len(turns) < SECONDS):
        turns.append((seconds(ours), seconds(theirs)))
    own, plain = (median(times) for times in zip(*turns, strict=True))
    ratio = median(a / b for a, b in turns)
    return {"ours": round(own, 4), "plain": round(plain, 4), "ratio": round(ratio, 3), "turns": len(turns)}


def installed(library: str) -> str | None:
    """The version of a library, or None without it."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def measure_all(names: Iterable[str], out: Path, make: Callable[[str, int | None], nn.Module]) -> None:
    """Examine networks one by one and keep what is told of each."""
    versions = {library: installed(library) for library in LIBRARIES}
    for name in names:
        torch.manual_seed(0)
        begun = time.perf_counter()
        line: dict[str, Any] = {"network": name, "versions": versions}
        try:
            line |= examine(partial(make, name))
        except Exception as error:  # the others are examined all the same
            traceback.print_exc()
            line["failed"] = f"{type(error).__name__}: {error}"
        line["seconds"] = round(time.perf_counter() - begun, 1)
        others = [other for other in read(out) if other["network"] != name]
        written = out.with_suffix(".partial")
        written.write_text("".join(f"{json.dumps(each)}\n" for each in [*others, line]))
        written.replace(out)
        print(" ".join(cells(line)), f"({line['seconds']} s)", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing or named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    if options.markdown:
        markdown(read(options.out))
        return
    torch.set_num_threads(1)
    done = {line["network"] for line in read(options.out)}
    measure_all(options.names or [name for name in NAMES if name not in done], options.out, build)


if __name__ == "__main__":
    main()
