"""Proxies: how a policy's accuracy is judged without full fine-tuning.

`PROXIES` has their kinds by name; a package adds its own by an entry point `tinysearch.proxies`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...core.registry import Entry, Registry
from .base import Proxy, ProxyKind, Score
from .settings import FewShotSettings, ProxySettings

if TYPE_CHECKING:
    from ..problem import Problem

__all__ = ["PROXIES", "Proxy", "ProxyKind", "ProxySettings", "Score", "make_proxy"]


def _few_shot(problem: "Problem", settings: FewShotSettings) -> Callable[[], Proxy]:
    from .few_shot import prepare  # loads torch, which a request must not wait for

    return prepare(problem, settings)


_BUILT_IN = (
    ProxyKind(
        "few-shot",
        "accuracy after a short fine-tuning on episodes of the training split",
        _few_shot,
        FewShotSettings,
    ),
)


def _check(thing: object) -> None:
    if not isinstance(thing, ProxyKind):
        raise TypeError(f"a {type(thing).__name__}, where a ProxyKind is needed")


#: The kinds of proxies, by name.
PROXIES: Registry[ProxyKind] = Registry(
    "proxy", [Entry.of(kind.name, kind) for kind in _BUILT_IN], _check, plural="proxies"
)


def make_proxy(problem: "Problem") -> Callable[[], Proxy]:
    """A picklable function that makes the proxy that a problem's request names.

    Raises:
        InputError: The problem's data do not suffice.
    """
    settings = problem.request.proxy
    return PROXIES.load(settings.name).prepare(problem, settings)
