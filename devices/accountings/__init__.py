"""Named accountings: the counting rules of the papers, side by side with this project's own.

`tinysearch` (saved bytes of the applied policy, peak over a device's schedule) is the package's own and no module here;
`eager` is the same with PyTorch's plain layers. The others are the published rules, one module each.
"""

from ...core.errors import InputError
from .base import Account, Accounting
from .mobiletl import MOBILETL
from .sparse_update import SPARSE_UPDATE
from .tinytl import TINYTL
from .tinytrain import TINYTRAIN

__all__ = ["DEFAULT", "EAGER", "NAMES", "PUBLISHED", "Account", "Accounting", "published"]

#: The package's own accounting, and the one of plain PyTorch layers.
DEFAULT, EAGER = "tinysearch", "eager"
#: The papers' accountings, by name.
PUBLISHED: dict[str, Accounting] = {entry.name: entry for entry in (TINYTL, MOBILETL, TINYTRAIN, SPARSE_UPDATE)}
NAMES = (DEFAULT, EAGER, *PUBLISHED)


def published(name: str) -> Accounting | None:
    """A paper's accounting, or None for the two that count a step on a device.

    Raises:
        InputError: There is no such accounting.
    """
    if name not in NAMES:
        raise InputError(f"no accounting named {name!r}: there are {', '.join(NAMES)}")
    return PUBLISHED.get(name)
