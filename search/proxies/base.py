"""Proxies: what a policy's accuracy would be, judged without full fine-tuning."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from ...spaces.policy import UpdatePolicy
from ...spaces.trace import Trace
from .settings import ProxySettings

if TYPE_CHECKING:
    from torch import nn

    from ..data.episodes import Episode


class ProxyTask(Protocol):
    """What a proxy may look at: a problem's network, and images of the target's training split."""

    @property
    def backbone(self) -> "nn.Module":
        """The pretrained network, with a head for the target's classes; to be left as it is."""
        ...

    @property
    def trace(self) -> Trace:
        """The backbone at the request's input size."""
        ...

    @property
    def seed(self) -> int:
        """Seed of all that is drawn."""
        ...

    @property
    def proxy(self) -> ProxySettings:
        """What the user says of the proxy."""
        ...

    def episodes(self, count: int) -> "list[Episode]":
        """The first few-shot episodes of the training split; the same for every policy."""
        ...


#: The largest rate that a policy can have, and the most seconds that a score may say that it took: ten years.
LARGEST_RATE, LONGEST = 1e6, 3e8


@dataclass(frozen=True)
class Score:
    """What the proxy says of a policy.

    Attributes:
        accuracy: Mean share of queries answered right, 0 to 1.
        accuracy_se: Its standard error: the larger of that between episodes and that of counting right answers.
        loss: Mean cross-entropy of the queries, nats.
        learning_rate: The rate that was best.
        seconds: Wall time that it took.
        answers: Whether each query was answered right, a byte each, in an order that all policies share; empty where
            the proxy asks none. Policies are compared by the queries that they answer differently.
        images: Where the image of each query is in the training split, in the order of the answers; empty where the
            proxy does not say. By these, rounds are seen to ask for the same images.

    Raises:
        ValueError: A number is none that a score can have.
    """

    accuracy: float
    accuracy_se: float
    loss: float
    learning_rate: float
    seconds: float
    answers: bytes = b""
    images: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no front could be made of."""
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"an accuracy of {self.accuracy} is none")
        for name, most in (("accuracy_se", 1.0), ("learning_rate", LARGEST_RATE), ("seconds", LONGEST)):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} is {value}, which it cannot be")
        if not self.learning_rate:
            raise ValueError("the learning rate is 0")
        if not isinstance(self.answers, bytes):
            raise ValueError(f"the answers are a {type(self.answers).__name__}, not bytes")
        if not isfinite(self.loss):
            raise ValueError(f"the loss is {self.loss}")


class Proxy(ABC):
    """Judges the policies of one problem.

    A run uses a proxy like this:

    1. The request is checked: what the user says of the proxy is validated by the `settings` of its `ProxyKind`.
    2. The run calls `ProxyKind.prepare` once, in its own process, and gets a function without arguments. There the kind
       takes from the problem what the proxy needs: data are loaded and drawn here.
    3. Every worker process calls that function once, so it must be picklable, and so must be what it refers to. With
       one job it is called in the run's own process. Computing is restricted to one thread in all of them.
    4. The proxy is called with one policy after another. Which process is asked, and in what order, is by chance.
    5. When the search has ended, some of the policies that it found may be judged again: 2 to 4 are done once more for
       each round of that, with a problem whose `seed` and `episodes` are others. The policies have the learning rate
       then that the first score said. Where a run has several networks, which are not judged again, a proxy may be
       told to `rest` while another's is asked.
    6. Nobody tells it when the run is over.

    So a score must depend on nothing but the problem and the policy: not on what was scored before, nor on the global
    random state. Otherwise a run that is resumed finds another front. A proxy may look at the training split of the
    target, and never at the test split. It must leave the problem's backbone as it is.

    Example:
        >>> from tinysearch.search.proxies import PROXIES, Proxy, ProxyKind, Score
        >>> class Counting(Proxy):
        ...     "How much trains, as if that were all that counts."
        ...
        ...     def __call__(self, policy):
        ...         accuracy = 1 - 1 / (1 + len(policy.layers) + len(policy.norms))
        ...         return Score(accuracy, 0.0, 1 - accuracy, 1e-3, 0.0)
        >>> kind = ProxyKind("counting", "how many layers train", lambda problem, settings: Counting)
        >>> PROXIES.add("counting", kind)  # ts.run(..., proxy="counting") uses it
        >>> PROXIES.remove("counting")
    """

    @abstractmethod
    def __call__(self, policy: UpdatePolicy) -> Score:
        """Judge a policy.

        Args:
            policy: What trains, with the device's optimizer.

        Raises:
            RuntimeError: It cannot be judged. The run records the reason as this policy's failure and goes on.
            FloatingPointError: Likewise.
        """

    def rest(self) -> None:  # noqa: B027  # most proxies hold little
        """Free the memory of what can be computed again: for a while nothing will be asked."""


@dataclass(frozen=True, slots=True)
class ProxyKind:
    """A proxy that can be asked for.

    Attributes:
        name: What users call it.
        summary: What it is, in a line.
        prepare: Gives, of a task and the settings, a picklable function that makes the proxy. It raises InputError
            if the problem's data do not suffice.
        settings: What the proxy can be told: `ProxySettings` or a subclass.
    """

    name: str
    summary: str
    prepare: Callable[[ProxyTask, Any], Callable[[], Proxy]]
    settings: type[ProxySettings] = ProxySettings
