"""Modules at the places that they had up to version 0.1: found there still, with a warning that names the new one."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.partition(".")[0]
#: Old place to new one.
MOVED = {
    "devices.accountings.record": "devices.accountings.base",
    "devices.calibrate.calibrate": "devices.calibrate.machine",
    "devices.caveats": "devices.latency.caveats",
    "devices.columns": "devices.step.columns",
    "devices.compiler": "devices.step.compiler",
    "devices.energy": "devices.latency.energy",
    "devices.kernels": "devices.profile.kernels",
    "devices.memory": "devices.step.peak",
    "devices.meter": "devices.measure.meter",
    "devices.plan": "devices.step.plan",
    "devices.program": "devices.step.program",
    "devices.quantities": "devices.profile.quantities",
    "devices.records": "devices.profile.model",
    "devices.saved": "devices.step.saved",
    "devices.schedule": "devices.step.setting",
    "devices.schema": "devices.profile.schema",
    "devices.writer": "devices.profile.writer",
    "results.atomic": "core.files",
    "results.axes": "results.plots.axes",
    "results.labels": "results.plots.labels",
    "results.plan_plot": "results.plots.plan",
    "results.request": "results.identity",
    "search.episodes": "search.data.episodes",
    "search.fewshot": "search.proxies.few_shot",
    "search.workers": "search.distributed.local",
    "spaces.apply": "spaces.engine.apply",
    "spaces.backbones.registry": "spaces.backbones.catalogue",
    "spaces.channels": "spaces.engine.channels",
    "spaces.convolution": "spaces.engine.convolution",
    "spaces.errors": "core.errors",
    "spaces.files": "core.files",
    "spaces.functions": "spaces.engine.functions",
    "spaces.group_norm": "spaces.backbones.group_norm",
    "spaces.layers": "spaces.engine.layers",
    "spaces.masks": "spaces.engine.masks",
    "spaces.merge": "spaces.delta.merging",
    "spaces.origin": "spaces.engine.origin",
    "spaces.retention": "spaces.trace.retention",
    "spaces.split": "spaces.engine.split",
    "spaces.tinytrain": "spaces.methods._tinytrain",
    "spaces.tracing": "spaces.trace.recorder",
    "spaces.units": "core.units",
    "spaces.validation": "core.validation",
}


class _Forward(Loader):
    """Fills a module with the names of the one that it has become."""

    def exec_module(self, module: ModuleType) -> None:
        new = f"{PACKAGE}.{MOVED[module.__name__.partition('.')[2]]}"
        warnings.warn(f"{module.__name__} is {new} now", DeprecationWarning, stacklevel=2)
        names = vars(import_module(new))
        vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})


class _Finder(MetaPathFinder):
    """Asked only for what is found nowhere else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, place = fullname.partition(".")
        return ModuleSpec(fullname, _Forward()) if package == PACKAGE and place in MOVED else None


def find_moved_modules() -> None:
    """Let imports of moved modules succeed."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
