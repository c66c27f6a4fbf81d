"""What is wrong with options and files, told before PyTorch is imported: that takes longer than most commands.

Nothing is known here that the library does not check too; these are its own checks, of what needs no PyTorch.
"""

from pathlib import Path
from typing import Any

from ..core.files import check_output, open_bounded, read_text, require_file

#: What names weights without being a file.
_NAMED = ("bundled", "imagenet", "none")


def device(name: str | None) -> None:
    """A device's name, or a profile's file."""
    if name is not None:
        from ..devices.profile import load_device

        load_device(name)


def weights(stated: str | None) -> None:
    """Weights that are a file; of several backbones each is looked at when it is its turn."""
    if stated is not None and stated not in _NAMED and not {"=", ","} & set(stated):
        require_file(Path(stated), "weights file")


def policy_file(path: str | Path) -> None:
    """The file of a policy."""
    from ..spaces.policy import UpdatePolicy

    UpdatePolicy.load(path)


def member(run: Path, policy: str) -> None:
    """A run, its front, and a member of that by name; `all` of them."""
    from ..results.rundir import RunDirectory

    front = RunDirectory.load(run).front
    if policy not in ("all", "best"):  # the best may be asked for within limits
        front.find(policy)


def exporter(name: str) -> None:
    """The name of an exporter."""
    from ..results.export import EXPORTERS

    _ = EXPORTERS[name]


def accounting(name: str) -> None:
    """The name of an accounting."""
    from ..devices.accountings import ACCOUNTINGS

    _ = ACCOUNTINGS[name]


def output(path: Path | None) -> None:
    """A .safetensors file that is to be written."""
    if path is not None:
        check_output(path, ".safetensors")


def delta(path: Path) -> None:
    """The file of a delta: whether there is one."""
    with open_bounded(path, 1 << 40):
        pass


def json_file(path: Path | None) -> None:
    """A file of JSON, whatever it holds."""
    if path is not None:
        from ..core.formats import parse_json

        parse_json(read_text(path), str(path))


def request(stated: dict[str, Any]) -> None:
    """What a run is asked to do, but for the networks, which PyTorch makes."""
    from ..search.data.catalogue import check_dataset
    from ..search.request import Request

    of_networks = ("backbone", "weights", "input_size")  # there may be several, with commas between them
    known = {key: value for key, value in stated.items() if key in Request.model_fields and key not in of_networks}
    asked = Request.make(**known)
    device(asked.device)
    check_dataset(asked.dataset, asked.data_dir)
    if "," not in (stated.get("backbone") or ""):
        weights(stated.get("weights"))
