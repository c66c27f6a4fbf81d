"""From a search for a Cortex-M7 to a C program that trains there on real images, beside PyTorch.

    python examples/cortex_m7.py [--trials 6] [--images 60]

Searches handwritten digits for the board, exports the recommended policy, links real images in, and trains on them in
QEMU with no more RAM than the board has. PyTorch then trains the same policy on the same images in the same order: the
losses, and the answers to as many other images, are printed side by side. Ends with exit code 1 if they differ by more
than PyTorch differs from itself in double precision: a mask that turns over makes a training go another way. Needs
`make`, `arm-none-eabi-gcc` and `qemu-system-arm` (Debian: gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm).
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import tinysearch as ts
from tinysearch.results.export.c.examples import Examples
from tinysearch.search.data.images import Subset
from tinysearch.search.problem import Problem

MAIN = Path(__file__).with_name("cortex_m7.c")
EPOCHS, RATE = 3, 0.003
#: By how much a loss may differ, and how often that by which PyTorch's own do, in double precision.
TOLERANCE, MARGIN = 1e-4, 8


def train_in_pytorch(
    backbone: torch.nn.Module, policy: ts.UpdatePolicy, examples: Examples, dtype: torch.dtype = torch.float32
) -> tuple[list[float], list[int]]:
    """Losses of each step on the first half of the images, and answers to the second, as the program gives them."""
    model = ts.apply(backbone, policy).train().to(dtype)
    images, labels = examples.tensor().to(dtype), torch.from_numpy(examples.labels)
    half = len(images) // 2
    stepper = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], RATE)
    losses = []
    for n in list(range(half)) * EPOCHS:
        loss = F.cross_entropy(model(images[n : n + 1]), labels[n : n + 1])
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    with torch.no_grad():
        answers = model.eval()(images[half:]).argmax(1)
    return losses, answers.tolist()


def main() -> int:
    """Search, export, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6, help="policies that the search fine-tunes")
    parser.add_argument("--images", type=int, default=60, help="images to train on, and as many to be asked of")
    parser.add_argument("--out", type=Path, default=Path("cortex_m7_example"), help="a new folder for run and program")
    options = parser.parse_args()

    run = ts.run(device="cortex-m7", dataset="digits", trials=options.trials, out=options.out / "run")
    member = run.front.recommended or run.front.best()
    policy = ts.UpdatePolicy.load(run.policy_path(member))
    print(f"{member.hash[:8]}: {member.accuracy:.1%} expected, arena {member.peak_bytes / 1024:.1f} KiB")
    print(policy.describe())

    problem = Problem.of_run(run)
    each = -(-2 * options.images // len(problem.dataset.classes))
    chosen = Subset.balanced(problem.dataset.train, each)
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))[: 2 * options.images].tolist()
    images, labels = chosen.load(order, policy.input_shape[1]), chosen.labels[order]
    firmware = options.out / "firmware"
    ts.export(
        policy, problem.backbone, to="c", out=firmware, device="cortex-m7", name="net", optimizer="sgd",
        learning_rate=RATE, images=images, labels=labels.tolist(),
    )  # fmt: skip
    shutil.copy(MAIN, firmware / "main.c")
    made = subprocess.run(["make", "-s", "qemu-demo"], cwd=firmware, capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stderr)
        return 1
    print(*(line for line in made.stdout.splitlines() if "RAM" in line or "FLASH" in line), sep="\n")
    words = [line.split() for line in made.stderr.splitlines()]
    losses = [float(line[1]) for line in words if line[:1] == ["loss"]]
    answers = [int(line[1]) for line in words if line[:1] == ["answer"]]

    examples = Examples.of(policy.input_shape, len(problem.dataset.classes), problem.backbone, images, labels.tolist())
    expected, expected_answers = train_in_pytorch(problem.backbone, policy, examples)
    half = len(images) // 2
    right, expected_right = (
        sum(a == b for a, b in zip(each, labels[half:], strict=True)) for each in (answers, expected_answers)
    )
    apart = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    print(f"{'':24}{'Cortex-M7':>12}{'PyTorch':>12}")
    for epoch in range(EPOCHS):
        means = [sum(found[epoch * half : (epoch + 1) * half]) / half for found in (losses, expected)]
        print(f"mean loss, epoch {epoch + 1:<7}{means[0]:12.6f}{means[1]:12.6f}")
    print(f"{f'right of {len(answers)} others':24}{right:12}{expected_right:12}")
    precise, precise_answers = train_in_pytorch(problem.backbone, policy, examples, torch.float64)
    own = max(abs(a - b) for a, b in zip(precise, expected, strict=True))
    print(f"largest difference of a loss: {apart:.1e}; of PyTorch from itself in double precision: {own:.1e}")
    steady = expected_answers == precise_answers and own <= TOLERANCE
    return 0 if apart <= max(TOLERANCE, MARGIN * own) and (answers == expected_answers or not steady) else 1


if __name__ == "__main__":
    sys.exit(main())
