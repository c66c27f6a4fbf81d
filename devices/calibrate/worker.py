"""The process that measures on a machine that has tinysearch: `python -m tinysearch.devices.calibrate.worker`.

Reads a jobs file and writes a results file, as `standalone` does, of policies applied by `spaces.apply`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.files import write_atomically
from ...spaces.backbones.catalogue import load_backbone
from ...spaces.engine.apply import apply
from .jobs import policy_of
from .stamping import stamped
from .standalone import Step, run_jobs


def prepare(jobs: dict[str, Any]) -> Callable[[dict[str, Any], dict[str, Any]], tuple[Callable[[], Step], Any]]:
    """How to prepare the steps of a jobs file."""

    def one(network: dict[str, Any], job: dict[str, Any]) -> tuple[Callable[[], Step], Any]:
        def make() -> Step:
            backbone = load_backbone(
                network["backbone"], num_classes=network["classes"], input_size=network["input_size"]
            )
            model = apply(backbone, policy_of(job)).train()
            shape = [jobs["batch"], 3, network["input_size"], network["input_size"]]
            return Step(model, shape, network["classes"], jobs["optimizer"], jobs["device"])

        return make, stamped

    return one


def main(jobs_path: str, results_path: str) -> None:
    """Measure; the share that is done goes to standard output, one number a line."""
    jobs = json.loads(Path(jobs_path).read_text(encoding="utf-8"))
    sys.path.append("")  # a backbone of the user's own lies where the command is called
    results = run_jobs(jobs, prepare(jobs), lambda share: print(share, flush=True))
    write_atomically(Path(results_path), json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
