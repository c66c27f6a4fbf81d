"""Named accountings: the counting rules of the papers, side by side with this project's own.

`ACCOUNTINGS` has them by name; a package adds its own by an entry point `tinysearch.accountings`. `tinysearch` (saved
bytes of the applied policy, peak of a device's step) is the package's own; `eager` is the same with plain layers.
"""

from typing import Any

from ...core.registry import Entry, Registry
from .base import Account, Accounting
from .eager import EAGER
from .mobiletl import MOBILETL
from .sparse_update import SPARSE_UPDATE
from .tinytl import TINYTL
from .tinytrain import TINYTRAIN

__all__ = ["ACCOUNTINGS", "DEFAULT", "Account", "Accounting"]

OWN = Accounting(
    name="tinysearch",
    summary="what an applied policy keeps, and the largest sum of what lives at a moment of its step",
    source="this package, tested against autograd",
)
#: The accounting that counts unless another is asked for.
DEFAULT = OWN.name


def _check(thing: Any) -> None:
    if not isinstance(thing, Accounting):
        raise TypeError(f"a {type(thing).__name__}, where an Accounting is needed")


#: All accountings, by name.
ACCOUNTINGS: Registry[Accounting] = Registry(
    "accounting",
    [Entry.of(each.name, each) for each in (OWN, EAGER, TINYTL, MOBILETL, TINYTRAIN, SPARSE_UPDATE)],
    _check,
)
