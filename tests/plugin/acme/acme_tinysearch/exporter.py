"""An exporter: names and shapes of what trains, as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tinysearch import UpdatePolicy
from tinysearch.results.export import Exporter


class JsonExporter(Exporter):
    """Writes trained.json."""

    summary = "names and shapes of what trains, as JSON"

    def lacks(self, policy: UpdatePolicy) -> str:
        """It knows no lite residual modules."""
        return "lite residual modules" if policy.lite_residuals else ""

    def write(self, policy: UpdatePolicy, backbone: nn.Module, out: Path) -> Sequence[Path]:
        """One file."""
        shapes = {name: list(parameter.shape) for name, parameter in policy.apply(backbone).named_parameters()}
        path = out / "trained.json"
        path.write_text(json.dumps(shapes))
        return [path]
