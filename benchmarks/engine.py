"""Bytes, time and memory of a training step under every named method, against PyTorch and what else saves activations.

    python benchmarks/engine.py [--backbones mobilenetv2-w0.35,...] [--methods bias,full] [--batch 32] [--size 96]
                                [--steps 9] [--wall] [--channels-last] [--no-rss] [--device cuda] [--markdown]

First the gradients of every trained tensor are compared with plain PyTorch's. Contenders then take turns, step by
step; a time is the median over the steps, a ratio the median of the ratios within each turn, so that a busy machine
slows all of them alike. On the CPU times are processor seconds of one thread (`--wall` for the clock), and memory is
the growth of the peak resident set over two steps in a fresh process; on a GPU it is what torch.cuda allocated at most.
"""

import argparse
import ctypes
import gc
import multiprocessing
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from engine_peers import memsave, plain, sign_masked, with_checkpoints
from torch import Tensor, nn

import tinysearch as ts
from tinysearch.spaces.engine import channels

BACKBONES = "mobilenetv2-w0.35,mobilenetv2-w1.0,mcunet-5fps"
PEERS = ("plain", "memsave", "checkpoint")
Result = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbones", default=BACKBONES)
    parser.add_argument("--methods", default="")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--no-rss", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    _keep_freed_memory()
    order = "channels last" if args.channels_last else "channels first"
    clock = "GPU clock" if args.device != "cpu" else "wall clock" if args.wall else "processor time, one thread"
    print(f"batch {args.batch}, {args.size} px, {order}, SGD, {clock}\n")
    times: list[float] = []
    for name in args.backbones.split(","):
        results = measure_backbone(name, args)
        show(name, results, markdown=args.markdown)
        times += [result["plain"]["ratio"] for result in results.values()]
        more = [f"{method} than {peer}" for method, r in results.items() for peer in PEERS if r[peer]["less"] > 1]
        print(f"\n{name}: more bytes kept: {', '.join(more) or 'nowhere'}", end="")
        if "bias" in results:
            print(f"; bias keeps 1/{1 / results['bias']['plain']['less']:.0f} of plain PyTorch's", end="")
        print(f"; step time / plain in the median {median(times[-len(results) :]):.2f}\n")
    print(f"step time / plain in the median over all: {median(times):.2f}")
    slices(args.device)


def measure_backbone(name: str, args: argparse.Namespace) -> dict[str, Result]:
    """By method and contender: bytes, seconds and memory."""
    torch.manual_seed(0)
    backbone = ts.load_backbone(name, num_classes=10, input_size=args.size)
    trace = ts.trace(backbone, (3, args.size, args.size))
    images, labels = torch.randn(args.batch, *trace.input_shape), torch.arange(args.batch) % 10
    order = torch.channels_last if args.channels_last else torch.contiguous_format
    images, labels = images.to(args.device, memory_format=order), labels.to(args.device)
    blocks = tuple(block.name for block in trace.blocks)
    results: dict[str, Result] = {}
    for method, policy in ts.methods.named(trace).items():
        if args.methods and method not in args.methods.split(","):
            continue
        ours = ts.apply(backbone, policy).train()
        theirs = plain(backbone, policy, ours)
        models = {
            "ours": ours,
            "plain": theirs,
            "memsave": memsave(theirs),
            "checkpoint": with_checkpoints(theirs, blocks),
        }
        check_gradients(ours, sign_masked(theirs, policy.sign_masks), images, labels)
        models = {peer: model.to(args.device, memory_format=order) for peer, model in models.items()}
        seconds = time_steps(models, images, labels, args)
        results[method] = {
            peer: {
                "bytes": ts.measure(model, images, labels, repeats=1).saved_bytes,
                "ms": 1e3 * median(seconds[peer]),
                "ratio": median(a / b for a, b in zip(seconds["ours"], seconds[peer], strict=True)),
                "memory": 0 if args.no_rss or peer not in ("ours", "plain") else peak_growth(model, images, labels),
            }
            for peer, model in models.items()
        }
        for result in results[method].values():
            result["less"] = results[method]["ours"]["bytes"] / result["bytes"]
    return results


def check_gradients(ours: nn.Module, theirs: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Every trained tensor's gradient against PyTorch's, in double precision: SystemExit if they differ."""
    ours, theirs = (deep.double().to(images.device) for deep in map(_copy, (ours, theirs)))
    few = images[:4].double()
    for model in (ours, theirs):
        F.cross_entropy(model(few), labels[:4]).backward()
    expected = {n.replace(".own.", "."): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    for name, parameter in ours.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = expected[name.removesuffix("_update")]
        if name.endswith("weight_update"):
            layer = ours.get_submodule(name.removesuffix(".weight_update"))
            gradient = channels.select(gradient, layer.update_index, layer.update_axis, layer.groups)
        error = (parameter.grad - gradient).norm() / gradient.norm().clamp_min(1e-12)
        if error > 1e-6:
            raise SystemExit(f"the gradient of {name} is not PyTorch's: relative error {error:.1e}")


def time_steps(models: dict[str, nn.Module], images: Tensor, labels: Tensor, args: argparse.Namespace) -> dict:
    """Seconds of each step, by contender."""
    now = time.perf_counter if args.wall or args.device != "cpu" else time.process_time
    steppers = {peer: _stepper(model, images, labels) for peer, model in models.items()}
    seconds: dict[str, list[float]] = {peer: [] for peer in models}
    for turn in range(args.steps + 2):
        for peer, step in steppers.items():
            start = now()
            step()
            if turn >= 2:  # the first calls of a shape are slower
                seconds[peer].append(now() - start)
    return seconds


def _stepper(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-5)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return step


def peak_growth(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes by which two steps raise the peak of memory over what is there before."""
    gc.collect()
    if images.is_cuda:
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _two_steps(model, images, labels)
        return torch.cuda.max_memory_allocated() - before
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "engine_peers"])
    receiver, sender = server.Pipe(duplex=False)
    process = server.Process(target=_peak_in_child, args=(sender, pickle.dumps((model, images, labels))))
    process.start()
    growth: int = receiver.recv()
    process.join()
    return growth


def _peak_in_child(sender: Any, task: bytes) -> None:
    torch.set_num_threads(1)
    model, images, labels = pickle.loads(task)
    _two_steps(model, images[:2], labels[:2])  # libraries set themselves up
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
    before = _status("VmRSS")
    _two_steps(model, images, labels)
    sender.send(_status("VmHWM") - before)


def _two_steps(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    step = _stepper(model, images, labels)
    step()
    step()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def slices(device: str) -> None:
    """Backward time of one convolution: its whole weight against a quarter of its channels."""
    print("\ngradient of a weight and of its input, whole and a quarter of the channels (batch 32), ms")
    layers = {
        "1x1 96-24 @24": (96, 24, 1, 1, 24),
        "1x1 24-144 @24": (24, 144, 1, 1, 24),
        "3x3 32-64 @24": (32, 64, 3, 1, 24),
    }
    layers |= {"3x3 dw 96 @24": (96, 96, 3, 96, 24), "3x3 grouped 4, 64-64 @24": (64, 64, 3, 4, 24)}
    for name, (inputs, outputs, kernel, groups, size) in layers.items():
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        x = torch.randn(32, inputs, size, size, device=device, requires_grad=True)
        grad = torch.randn(32, outputs, size, size, device=device)
        runs = {"whole": _slice_backward(conv, None, 0, x, grad, device)}
        for axis, count in (("in", inputs), ("out", outputs)):
            runs[axis] = _slice_backward(conv, axis, count // 4, x, grad, device)
        best = {label: float("inf") for label in runs}
        for _ in range(15):
            for label, run in runs.items():
                best[label] = min(best[label], run())
        print(f"  {name:<26}" + "  ".join(f"{label} {1e3 * seconds:6.2f}" for label, seconds in best.items()))


def _slice_backward(conv: nn.Conv2d, axis: str | None, count: int, x: Tensor, grad: Tensor, device: str) -> Callable:
    from tinysearch.spaces.engine.layers import Conv2d

    layer = Conv2d(_copy(conv).requires_grad_(axis is None)).to(device)
    if axis is not None:
        layer.train_channels(axis, tuple(range(0, 4 * count, 4)))

    def run() -> float:
        output = layer(x)
        start = time.perf_counter() if x.is_cuda else time.process_time()
        output.backward(grad)
        if x.is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() if x.is_cuda else time.process_time()) - start

    return run


def show(name: str, results: dict[str, Result], *, markdown: bool) -> None:
    """The table: kept bytes of each contender, step time and memory of ours against the others."""
    kept = [f"{peer} kept" for peer in ("ours", *PEERS)]
    head = ["method", *kept, "ours ms", *(f"/ {peer}" for peer in PEERS), "ours memory", "plain memory"]
    rows = [head]
    for method, result in results.items():
        rows.append([method, *(_kib(result[peer]["bytes"]) for peer in ("ours", *PEERS))])
        rows[-1] += [f"{result['ours']['ms']:.1f}", *(f"{result[peer]['ratio']:.2f}" for peer in PEERS)]
        rows[-1] += [_kib(result["ours"]["memory"]), _kib(result["plain"]["memory"])]
    print(f"{name}: KiB kept from forward to backward; step time, and as a ratio to each; growth of peak memory, KiB\n")
    if markdown:
        rows.insert(1, ["---"] * len(head))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows))
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _kib(count: float) -> str:
    return f"{count / 1024:,.0f}"


def _copy(module: nn.Module) -> nn.Module:
    from copy import deepcopy

    return deepcopy(module)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for all contenders: giving it back costs page faults in the next step."""
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
    libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that glibc takes


if __name__ == "__main__":
    main()
