"""Store what `measure.py` wrote in the package, as `search/ground_truth/table.json.gz`.

Run: python benchmarks/ground_truth/store.py --policies FILE --measured FILE --cells NAME ...
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from measure import BATCH, CELLS, RATES, SEEDS

from tinysearch.search.ground_truth.records import FILE, FORMAT, TableRecord

MEASURED = (
    "Fine-tuned in full by the code of `tinysearch finetune` (prototype head, warm-up, gradients clipped to a norm of "
    "1, cosine, no augmentation), in float32 on a GPU by CUDA graphs. The accuracies are those of the test split; the "
    "policies and rates were fixed beforehand. `held_out` are accuracies on a fifth of the training images after a "
    "quarter of the steps."
)
MISSING = (
    "dtd10-20 has 39 of the 116 policies and gtsrb-all 107: the device time ended. They are those that fifteen "
    "processes, each with a part of a random order, had come to by then; those of dtd10-20 are of eight of the parts. "
    "cifar10-all, with three policies, is left out. On gtsrb-all the highest rate is the best one for 94 policies: "
    "higher ones were not tried. One backbone, one resolution, one optimizer, two seeds. Among the policies are those "
    "that the tangent screen found on images of cifar10, gtsrb and dtd10."
)
PLACE = Path(__file__).resolve().parents[2] / "search" / "ground_truth" / FILE
FEW_SHOT = ("accuracy", "accuracy_se", "loss", "learning_rate", "seconds")


def packed(name: str, records: Sequence[dict], numbers: dict[str, int]) -> dict:
    """A cell's records, value by value instead of policy by policy."""
    (cell,) = (cell for cell in CELLS if cell.name == name)
    own = sorted((record for record in records if record["cell"] == name), key=lambda record: numbers[record["hash"]])
    rates = [f"{rate:g}" for rate in RATES]
    (shared,) = {(r["train_images"], r["test_images"], r["steps"], r["few_shot"]["queries"]) for r in own}
    return {
        "name": name,
        "dataset": cell.dataset,
        "per_class": cell.per_class,
        "classes": {"cifar10": 10, "gtsrb": 43, "dtd10": 10, "imagenette": 10}[cell.dataset],
        **dict(zip(("train_images", "test_images", "steps"), shared, strict=False)),
        "policies": [numbers[r["hash"]] for r in own],
        "accuracy": [[r["trained"][rate]["accuracy"] for rate in rates] for r in own],
        "held_out": [[r["race"][rate]["accuracy"][0] for rate in rates] for r in own],
        "few_shot": {"queries": shared[3]} | {key: [r["few_shot"][key] for r in own] for key in FEW_SHOT},
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=Path, required=True, help="as policies.py writes them")
    parser.add_argument("--measured", type=Path, required=True, help="as measure.py writes it")
    parser.add_argument("--cells", nargs="+", required=True)
    options = parser.parse_args()
    policies = [json.loads(line) for line in options.policies.read_text().splitlines()]
    records = [json.loads(line) for line in options.measured.read_text().splitlines()]
    numbers = {entry["policy"]["hash"]: number for number, entry in enumerate(policies)}
    content = {
        "measured": MEASURED,
        "missing": MISSING,
        "backbone": policies[0]["policy"]["backbone"],
        "weights": "ImageNet, Keras Applications' of width 0.35 (0.35_224_no_top), in torchvision's names",
        "input_size": policies[0]["policy"]["input_shape"][1],
        "optimizer": records[0]["optimizer"],
        "batch": BATCH,
        "learning_rates": RATES,
        "seeds": SEEDS,
        "policies": policies,
        "cells": [packed(name, records, numbers) for name in options.cells],
    }
    TableRecord.model_validate(content)
    # No time stamp, so that the same content is the same file.
    PLACE.write_bytes(gzip.compress(FORMAT.text(content, compact=True).encode(), mtime=0))


if __name__ == "__main__":
    main()
