"""Proxies: how a policy's accuracy is judged without full fine-tuning.

`PROXIES` has their kinds by name; a package adds its own by an entry point `tinysearch.proxies`.
"""

from collections.abc import Callable

from ...core.registry import Entry, Registry
from .base import Proxy, ProxyKind, ProxyTask, Score
from .settings import FewShotSettings, ProxySettings

__all__ = ["PROXIES", "Proxy", "ProxyKind", "ProxySettings", "ProxyTask", "Score", "make_proxy"]


def _few_shot(task: ProxyTask, settings: FewShotSettings) -> Callable[[], Proxy]:
    from .few_shot import prepare  # loads torch, which a request must not wait for

    return prepare(task, settings)


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


def make_proxy(task: ProxyTask) -> Callable[[], Proxy]:
    """A picklable function that makes the proxy that a task names.

    Raises:
        InputError: The task's data do not suffice.
    """
    return PROXIES.load(task.proxy.name).prepare(task, task.proxy)
