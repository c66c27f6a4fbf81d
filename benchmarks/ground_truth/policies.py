"""Policies of the ground truth: every named method, and random ones.

Those called `found-DATA-DEVICE@METHOD` and `front-DATA-N` are not made here: they are policies of the front that
`search/screening.py` finds by the tangent screen, the best at a method's costs and some at random.

Run: python benchmarks/ground_truth/policies.py --out FILE [--random N]
"""

import argparse
import json
from pathlib import Path

from tinysearch.search.network import load_network
from tinysearch.spaces import methods
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.space import UpdateSpace


def write(path: Path, named: dict[str, UpdatePolicy]) -> None:
    """Write a policy a line, equal ones once, under all their names."""
    policies: dict[str, UpdatePolicy] = {}
    names: dict[str, list[str]] = {}
    for name, policy in named.items():
        policies.setdefault(policy.hash, policy)
        names.setdefault(policy.hash, []).append(name)
    lines = (
        json.dumps({"names": names[key], "policy": json.loads(policy.to_json())}) for key, policy in policies.items()
    )
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mobilenetv2-w0.35-tf")
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--random", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    _, trace = load_network(options.backbone, classes=10, weights="none", input_size=options.input_size)
    space = UpdateSpace(trace)
    named = dict(methods.named(trace))
    named |= {f"random-{n}": space.decode(row) for n, row in enumerate(space.sample(options.random, seed=0))}
    write(options.out, named)


if __name__ == "__main__":
    main()
