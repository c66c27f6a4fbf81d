"""Train the bundled backbone on drawn images, and measure what came out.

    python examples/pretrain_bundled.py train --out mobilenetv2-w0.35-bundled.safetensors
    python examples/pretrain_bundled.py evaluate mobilenetv2-w0.35-bundled.safetensors [--data-dir DIR]
    python examples/pretrain_bundled.py finetune mobilenetv2-w0.35-bundled.safetensors

MobileNetV2 at width 0.35 learns to name the letter, symbol or fractal in a drawn image of 48 x 48 pixels, and
the texture behind it (see `bundled/`). No photograph, no scan and no digit is among the images, so `digits`,
CIFAR-10 and every other real data set stay unseen. Needs TinySearch installed (`pip install -e .`).
"""

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from bundled.finetune import POLICIES, RATES, finetuned
from bundled.images import IMAGE_SIZE, TEXTURES, draw_batch
from bundled.masks import FRACTALS, Bank, build_bank
from bundled.probe import centroid_probe, digits_split, real_sets
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2

RECIPE = "drawn-classes-1"
WIDTH = 0.35
BATCH = 128
PEAK_RATE = 3e-3
WEIGHT_DECAY = 0.05
WARM_UP = 300
LABEL_SMOOTHING = 0.1
#: Share of hard images, reached after the first fifth of the steps.
DIFFICULTY = 0.75
SAVE_EVERY = 500
#: Test images of each class of a drawn data set.
DRAWN_TEST = 2


@click.group()
def main() -> None:
    """Train the bundled backbone, or measure one."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Weights file to write.")
@click.option("--steps", type=click.IntRange(1), default=2_000, show_default=True, help=f"Batches of {BATCH}.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
@click.option("--glyphs", type=click.IntRange(1), help="Only the first glyph classes (for a quick try).")
@click.option("--fractals", type=click.IntRange(0), default=FRACTALS, show_default=True, help="Fractal classes.")
def train(out: Path, steps: int, seed: int, device: str, threads: int, glyphs: int | None, fractals: int) -> None:
    """Train from scratch, or go on from OUT.state where an earlier run was stopped."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    target = torch.device(device)
    bank = build_bank(glyphs, fractals).to(target)
    model = MobileNetV2(WIDTH, num_classes=len(bank) + len(TEXTURES)).to(target, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=steps + 1, pct_start=min(0.3, WARM_UP / steps), cycle_momentum=False
    )
    request = {"recipe": RECIPE, "seed": str(seed), "steps": str(steps), "classes": str(len(bank))}
    state_path = out.with_suffix(".state")
    members = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, seconds = _resume(state_path, request, members)
    model.train()
    began, loss_sum, hit_sum, seen = time.perf_counter() - seconds, 0.0, 0.0, 0
    for step in range(done, steps):
        images, labels, textures = draw_batch(bank, seed, step, BATCH, DIFFICULTY * min(1.0, 5 * step / steps))
        loss, hits = _train_step(model, optimizer, len(bank), images, labels, textures)
        schedule.step()
        loss_sum, hit_sum, seen = loss_sum + loss, hit_sum + hits, seen + 1
        if (step + 1) % 100 == 0 or step + 1 == steps:
            seconds = time.perf_counter() - began
            left = seconds / (step + 1) * (steps - step - 1)
            click.echo(
                f"step {step + 1}/{steps}  loss {loss_sum / seen:.3f}  named {hit_sum / seen:.1%}  "
                f"{seconds / 60:.1f} min, {left / 60:.1f} left"
            )
            loss_sum, hit_sum, seen = 0.0, 0.0, 0
        if (step + 1) % SAVE_EVERY == 0 and step + 1 < steps:
            state = {name: member.state_dict() for name, member in members.items()}
            _write_state(state_path, {**state, "request": request, "step": step + 1, "seconds": seconds})
    request |= {"training_minutes": f"{seconds / 60:.1f}", "device": device, "torch": torch.__version__}
    model.eval().cpu()
    request["digits_centroid_accuracy"] = f"{centroid_probe(model, digits_split(), shot=25):.3f}"
    save_backbone(model, bank, out, request)
    state_path.unlink(missing_ok=True)


@main.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .npz to write.")
@click.option("--per-class", type=click.IntRange(2), default=25, show_default=True, help="Training images a class.")
@click.option("--seed", type=int, default=1, show_default=True, help="That of the training is 0.")
@click.option("--glyphs", type=click.IntRange(1), help="Only the first glyph classes (for a quick try).")
@click.option("--fractals", type=click.IntRange(0), default=FRACTALS, show_default=True, help="Fractal classes.")
def draw(out: Path, per_class: int, seed: int, glyphs: int | None, fractals: int) -> None:
    """Write drawn images as a data set, a source for `tinysearch meta-train`."""
    bank = build_bank(glyphs, fractals)
    wanted = per_class + DRAWN_TEST
    drawn: list[list[np.ndarray]] = [[] for _ in range(len(bank))]
    step = 0
    while any(len(images) < wanted for images in drawn):
        images, labels, _ = draw_batch(bank, seed, step, BATCH, DIFFICULTY)
        pixels = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for image, label in zip(pixels, labels.tolist(), strict=True):
            if len(drawn[label]) < wanted:
                drawn[label].append(image)
        step += 1
    stacked = np.stack([np.stack(images) for images in drawn], axis=1)  # image by image, each of every class in turn
    classes = np.tile(np.arange(len(bank)), wanted)
    pixels, train = stacked.reshape(-1, *stacked.shape[2:]), per_class * len(bank)
    arrays = {
        "x_train": pixels[:train],
        "y_train": classes[:train],
        "x_test": pixels[train:],
        "y_test": classes[train:],
    }
    np.savez_compressed(out, **arrays)
    click.echo(f"{out}: {per_class} training images of each of {len(bank)} classes")


@main.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of real sets.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def evaluate(weights: Path, data_dir: Path | None, threads: int) -> None:
    """Print accuracies of simple heads on frozen features, beside those of random weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    random = MobileNetV2(WIDTH).eval()
    trained = load_backbone(weights)
    click.echo(f"{'data set':<28}{'bundled':>10}{'random':>10}")
    for name, probe in real_sets(data_dir):
        click.echo(f"{name:<28}{probe(trained):>10.1%}{probe(random):>10.1%}")


@main.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--episodes", type=click.IntRange(1), default=3, show_default=True)
@click.option("--shot", type=click.IntRange(1, 120), default=50, show_default=True, help="Images a class.")
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="Batches of 100.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
def finetune(weights: Path, episodes: int, shot: int, steps: int, threads: int) -> None:
    """Print what a few update policies reach on digits with Adam: mean and deviation over episodes."""
    torch.set_num_threads(threads)
    model, split = load_backbone(weights), digits_split()
    click.echo(f"{'trained':<16}" + "".join(f"{f'Adam {rate:g}':>18}" for rate in RATES))
    for name in POLICIES:
        line = f"{name:<16}"
        for rate in RATES:
            scores = [finetuned(model, split, name, rate, seed, shot=shot, steps=steps) for seed in range(episodes)]
            line += f"{np.mean(scores):>11.1%} ±{np.std(scores):>5.1%}"
        click.echo(line)


def _parameter_groups(model: nn.Module) -> list[dict[str, object]]:
    """Decay the weights of convolutions and the classifier, not norms and biases."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    classes: int,
    images: Tensor,
    labels: Tensor,
    textures: Tensor,
) -> tuple[float, float]:
    """Learn from a batch; the loss and the share of classes named right."""
    logits = model(images.contiguous(memory_format=torch.channels_last))
    named, ground = logits[:, :classes], logits[:, classes:]
    loss = F.cross_entropy(named, labels, label_smoothing=LABEL_SMOOTHING)
    loss = loss + 0.5 * F.cross_entropy(ground, textures, label_smoothing=LABEL_SMOOTHING)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item(), (named.argmax(1) == labels).float().mean().item()


def _resume(path: Path, request: dict[str, str], members: dict[str, Any]) -> tuple[int, float]:
    """Load the members' states from an earlier run of the same request; the steps and seconds it had done."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["request"] != request:
        raise click.ClickException(f"{path} is of another training: {state['request']}; delete it to start anew")
    for name, member in members.items():
        member.load_state_dict(state[name])
    return state["step"], state["seconds"]


def _write_state(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def save_backbone(model: nn.Module, bank: Bank, path: Path, facts: dict[str, str]) -> None:
    """Write the weights without the classifier, with where they come from in the metadata."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("classifier.")
    }
    facts = facts | {
        "backbone": "mobilenetv2-w0.35",
        "source": "images drawn by examples/bundled: no photographs, no scans, no digits",
        "characters": json.dumps(bank.characters, ensure_ascii=False),
        "input": f"RGB, {IMAGE_SIZE} px, scaled to [-1, 1]",
        "license": "MIT",
    }
    save_file(tensors, path, metadata=facts)


def load_backbone(path: Path) -> MobileNetV2:
    """The network with the file's weights, in eval mode; its classifier is random."""
    model = MobileNetV2(WIDTH)
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    if unexpected or set(missing) != {"classifier.1.weight", "classifier.1.bias"}:
        raise click.ClickException(f"{path} does not hold the weights of MobileNetV2 {WIDTH}")
    return model.eval()


if __name__ == "__main__":
    main()
