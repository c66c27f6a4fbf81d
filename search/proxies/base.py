"""Proxies: what a policy's accuracy would be, judged without full fine-tuning."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ...spaces.policy import UpdatePolicy

if TYPE_CHECKING:
    from ..problem import Problem


@dataclass(frozen=True)
class Score:
    """What the proxy says of a policy.

    Attributes:
        accuracy: Mean share of queries answered right, 0 to 1.
        accuracy_se: Its standard error: the larger of that between episodes and that of counting right answers.
        loss: Mean cross-entropy of the queries, nats.
        learning_rate: The rate that was best on the validation images.
        seconds: Wall time that it took.
    """

    accuracy: float
    accuracy_se: float
    loss: float
    learning_rate: float
    seconds: float


class ProxySettings(BaseModel):
    """What every proxy is told; a proxy that can be told more has a subclass of its own.

    These say how images of the training split are divided. Methods that choose a policy from the data see the support
    images (`Problem.support_task`), whatever the proxy does with them.

    Attributes:
        name: The proxy.
        shot: Support images of each class, as far as the data has them.
        queries: Images of an episode that accuracy is measured on.
        validation: Images of the first episode that the learning rate is chosen on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shot: int = Field(default=50, ge=1)
    queries: int = Field(default=1000, ge=10)
    validation: int = Field(default=300, ge=10)

    def describe(self) -> str:
        """How the accuracy was obtained, for titles."""
        return self.name


class Proxy(ABC):
    """Judges the policies of one problem.

    A run uses a proxy like this:

    1. The request is checked: what the user says of the proxy is validated by the class's `Settings`.
    2. The run calls `prepare` once, in its own process, and gets a function without arguments. There the proxy takes
       from the problem what it needs: data are loaded and drawn here.
    3. Every worker process calls that function once, so it must be picklable, and so must be what it refers to. With
       one job it is called in the run's own process. Computing is restricted to one thread in all of them.
    4. The proxy is called with one policy after another. Which process is asked, and in what order, is by chance.
    5. Nobody tells it when the run is over.

    So a score must depend on nothing but the problem and the policy: not on what was scored before, nor on the global
    random state, nor on the time. Otherwise a run that is resumed finds another front. It may look at the training
    split of the target, and never at the test split. It must leave the problem's backbone as it is.

    Attributes:
        Settings: What it can be told: a subclass of `ProxySettings`.

    Example:
        >>> from tinysearch.search.proxies import PROXIES
        >>> class Counting(Proxy):
        ...     "How much trains, as if that were all that counts."
        ...
        ...     @classmethod
        ...     def prepare(cls, problem, settings):
        ...         return cls
        ...
        ...     def __call__(self, policy):
        ...         accuracy = 1 - 1 / (1 + len(policy.layers) + len(policy.norms))
        ...         return Score(accuracy, 0.0, 1 - accuracy, 1e-3, 0.0)
        >>> PROXIES.add("counting", Counting)  # ts.run(..., proxy="counting") uses it
        >>> PROXIES.remove("counting")
    """

    Settings: ClassVar[type[ProxySettings]] = ProxySettings

    @classmethod
    @abstractmethod
    def prepare(cls, problem: "Problem", settings: Any) -> "Callable[[], Proxy]":
        """A picklable function that makes the proxy of a problem.

        Args:
            problem: What is searched.
            settings: An instance of `Settings`.

        Raises:
            InputError: The problem's data do not suffice.
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
