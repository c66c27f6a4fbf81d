"""TinySearch: search update policies for on-device transfer learning.

The public API; each name is imported when it is first used, so that `import tinysearch` costs next to nothing.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.moved import find_moved_modules

# In a checkout the subpackages are the repository's top-level folders: make them importable without
# an install, whatever the clone's folder is called.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))

find_moved_modules()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .core.errors import TinySearchError
    from .devices.breakdown import PolicyCost, estimate, smallest
    from .devices.costs import Costs
    from .devices.inspection import inspect
    from .devices.measure import measure
    from .devices.profile import DeviceProfile, list_devices, load_device
    from .results.export import export
    from .results.front import Front
    from .results.rundir import RunDirectory
    from .search.data import Dataset, list_datasets, load_dataset
    from .search.finetune import finetune
    from .search.ground_truth import GroundTruth, ground_truth
    from .search.meta_training import meta_train
    from .search.rerun import rerun
    from .search.run import run
    from .search.verify import verify
    from .spaces import methods
    from .spaces.backbones import list_backbones, load_backbone
    from .spaces.delta.merging import merge
    from .spaces.delta.weights import merge_file
    from .spaces.engine.apply import apply
    from .spaces.policy import UpdatePolicy
    from .spaces.space import UpdateSpace
    from .spaces.trace import Trace, trace

_WHERE = {
    "Costs": "devices.costs",
    "Dataset": "search.data",
    "DeviceProfile": "devices.profile",
    "Front": "results.front",
    "GroundTruth": "search.ground_truth",
    "PolicyCost": "devices.breakdown",
    "RunDirectory": "results.rundir",
    "TinySearchError": "core.errors",
    "Trace": "spaces.trace",
    "UpdatePolicy": "spaces.policy",
    "UpdateSpace": "spaces.space",
    "apply": "spaces.engine.apply",
    "estimate": "devices.breakdown",
    "export": "results.export",
    "finetune": "search.finetune",
    "ground_truth": "search.ground_truth",
    "inspect": "devices.inspection",
    "list_backbones": "spaces.backbones",
    "list_datasets": "search.data",
    "list_devices": "devices.profile",
    "load_backbone": "spaces.backbones",
    "load_dataset": "search.data",
    "load_device": "devices.profile",
    "measure": "devices.measure",
    "merge": "spaces.delta.merging",
    "merge_file": "spaces.delta.weights",
    "meta_train": "search.meta_training",
    "rerun": "search.rerun",
    "run": "search.run",
    "smallest": "devices.breakdown",
    "trace": "spaces.trace",
    "verify": "search.verify",
}

__all__ = [
    "Costs",
    "Dataset",
    "DeviceProfile",
    "Front",
    "GroundTruth",
    "PolicyCost",
    "RunDirectory",
    "TinySearchError",
    "Trace",
    "UpdatePolicy",
    "UpdateSpace",
    "apply",
    "estimate",
    "estimate_many",
    "export",
    "finetune",
    "ground_truth",
    "inspect",
    "list_backbones",
    "list_datasets",
    "list_devices",
    "load_backbone",
    "load_dataset",
    "load_device",
    "load_run",
    "measure",
    "merge",
    "merge_file",
    "meta_train",
    "methods",
    "rerun",
    "run",
    "smallest",
    "trace",
    "verify",
]


def estimate_many(
    space: "UpdateSpace",
    rows: Any,
    device: "DeviceProfile",
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = "tinysearch",
) -> "Costs":
    """What N encoded policies cost on a device.

    Args:
        space: The space that the rows are encoded in.
        rows: (N, D) integers.
        device: The device's profile.
        batch: Samples of a training step; None takes the device's.
        optimizer: Name of an optimizer; None takes the device's.
        accounting: Whose rules to count by, as the option `--accounting` has them.

    Returns:
        The costs as arrays of length N.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> space = ts.UpdateSpace(trace)
        >>> costs = ts.estimate_many(space, space.sample(1000), ts.load_device("rpi4"))
        >>> len(costs), bool((costs.peak_bytes > costs.saved_bytes).all())
        (1000, True)
    """
    from .devices.costs import cost_rows

    return cost_rows(space, rows, device, batch=batch, optimizer=optimizer, accounting=accounting)


def load_run(path: str | Path) -> "RunDirectory":
    """Open a run directory for reading.

    Raises:
        InputError: There is none at this path.

    Example:
        >>> import tinysearch as ts
        >>> ts.load_run("runs/digits").front.run.dataset
        'digits'
    """
    from .results.rundir import RunDirectory

    return RunDirectory.load(path)


def __getattr__(name: str) -> Any:
    if name == "methods":
        return import_module(".spaces.methods", __name__)
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
