"""The public API on one screen: from a network to a training step that keeps what was predicted.

    python examples/api_tour.py

Needs TinySearch installed (`pip install -e .`) and no network.
"""

import torch
import torch.nn.functional as F

import tinysearch as ts

SIZE, BATCH = 96, 8


def main() -> None:
    """Walk through it, printing what comes out."""
    backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=10, input_size=SIZE, weights="bundled")
    trace = ts.trace(backbone, (3, SIZE, SIZE))
    print(f"{trace.name}: {len(trace)} rows, {len(trace.blocks)} blocks, {trace.macs_forward / 1e6:.1f} MMAC")

    # What may be trained, as vectors of integers, and what each would cost: a thousand at once.
    space = ts.UpdateSpace(trace)
    device = ts.load_device("rpi4")
    costs = ts.estimate_many(space, space.sample(1000, seed=0), device, batch=BATCH)
    least, most = costs.peak_bytes.min() / 2**20, costs.peak_bytes.max() / 2**20
    print(f"{len(space)} genes; peaks of {len(costs)} samples: {least:.1f} to {most:.1f} MiB")

    # A published method is a policy like any other.
    policy = ts.methods.mobiletl(trace, 2)
    cost = ts.estimate(trace, policy, device, batch=BATCH)
    print(policy.describe())
    print(f"predicted: {cost.saved_bytes:,} B saved, peak {cost.peak_bytes:,} B in the {cost.peak_at}")
    for warning in cost.warnings:
        print(f"note: {warning}")

    # Applied, it trains exactly that, and keeps what was predicted.
    model = ts.apply(backbone, policy)
    digits = ts.load_dataset("digits").train
    images = digits.load(range(BATCH), SIZE).float() / 127.5 - 1
    labels = torch.tensor(digits.labels[:BATCH])
    measured = ts.measure(model, images, labels)
    print(f"measured:  {measured.saved_bytes:,} B saved, {measured.step_seconds * 1e3:.0f} ms a step here")

    # And any optimizer trains it.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    print(f"{sum(p.numel() for p in trained):,} parameters trained a step, loss {loss:.2f}")

    # What training changed, and nothing else, goes back into the pretrained network.
    change = policy.delta(model)
    plain = ts.merge(backbone, change)
    with torch.no_grad():
        difference = (plain(images) - model.eval()(images)).abs().max()
    print(f"delta: {len(change):,} B; the merged network's outputs differ by {difference:.1g} at most")


if __name__ == "__main__":
    main()
