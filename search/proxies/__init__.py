"""Proxies: how a policy's accuracy is judged without full fine-tuning.

`PROXIES` has them by name; a package adds its own by an entry point `tinysearch.proxies`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...core.registry import Entry, Registry
from .base import Proxy, ProxySettings, Score

if TYPE_CHECKING:
    from ..problem import Problem

__all__ = ["PROXIES", "Proxy", "ProxySettings", "Score", "make_proxy"]


def _check(thing: object) -> None:
    if not (isinstance(thing, type) and issubclass(thing, Proxy)):
        raise TypeError(f"{thing!r:.60} where a subclass of Proxy is needed")


#: All proxies, by name.
PROXIES: Registry[type[Proxy]] = Registry(
    "proxy",
    [
        Entry.at(
            "few-shot",
            "search.proxies.few_shot:FewShotProxy",
            "accuracy after a short fine-tuning on episodes of the training split",
        )
    ],
    _check,
    "proxies",
)


def make_proxy(problem: "Problem") -> Callable[[], Proxy]:
    """A picklable function that makes the proxy that a problem's request names."""
    settings = problem.request.proxy
    return PROXIES.load(settings.name).prepare(problem, settings)
