"""Scoring many policies: what the search asks for, wherever and in however many processes it is done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ...core.errors import TinySearchError
from ...spaces.policy import UpdatePolicy
from ..proxies.base import Proxy, Score


class Evaluate(Protocol):
    """Scores policies."""

    def __call__(
        self, policies: Sequence[UpdatePolicy], facts: Sequence[Mapping[str, object]] = ()
    ) -> Iterator[tuple[int, Score | str]]:
        """Score policies, several at once or one after another.

        Args:
            policies: What to score.
            facts: What is known of each before, such as its costs: to be shown beside its score where that is shown.

        Yields:
            Each policy's place in `policies`, and its score or the reason of its failure, as each is done.

        Raises:
            TinySearchError: The work cannot go on.
        """
        ...


class Workers(Protocol):
    """Those who score policies, on this machine or elsewhere."""

    def __call__(self, make: Callable[[], Proxy], most: int) -> AbstractContextManager[Evaluate]:
        """Have them ready for the policies of one proxy.

        Args:
            make: Makes the proxy; called once per process, and so picklable unless all is done in this process.
            most: Policies that will be asked for at once.

        Returns:
            The function that scores, as long as the context lasts.
        """
        ...


def score(proxy: Proxy, policy: UpdatePolicy) -> Score | str:
    """What a proxy says of a policy, or why it says nothing: one policy's failure is not the run's.

    Raises:
        TinySearchError: The work cannot go on.
    """
    try:
        found = proxy(policy)
    except TinySearchError:
        raise
    # What PyTorch raises, for want of memory too, and what the proxy does when training diverges.
    except (RuntimeError, FloatingPointError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    except (Exception, SystemExit) as error:  # whatever a user's own proxy or network raises
        return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    return found if isinstance(found, Score) else f"the proxy gave a {type(found).__name__}, not a Score"
