"""Scoring policies on this machine: in this process, or several at once in processes of their own.

Every process computes with one thread: the small operations of these networks gain little from more, and results
do not depend on how many policies are scored at once.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ...core.errors import InputError
from ...spaces.policy import UpdatePolicy
from ..proxies.base import Proxy, Score
from ..threads import one_thread
from .base import Evaluate, score
from .worker import Worker, heard, starting_processes


@contextmanager
def evaluator(make: Callable[[], Proxy], *, jobs: int, timeout: float | None = None) -> Iterator[Evaluate]:
    """A function of this machine that scores policies, `jobs` of them at once.

    Args:
        make: Makes the proxy; called once per process, so it and what it refers to must be picklable if there are any.
        jobs: Policies scored at once; with 1, and no time-out, all is done in this process.
        timeout: Seconds after which a policy counts as failed, and its process is ended; None is no bound.

    Yields:
        The function. A policy whose process dies is scored once more, alone, since several may have wanted too much
        memory together; if that dies too, the policy has failed.

    Raises:
        InputError: The proxy cannot be sent to other processes.
        TinySearchError: A process cannot make the proxy.
    """
    if jobs == 1 and timeout is None:
        with one_thread():
            proxy = make()
            yield lambda policies, facts=(): ((n, score(proxy, policy)) for n, policy in enumerate(policies))
        return
    try:
        content = pickle.dumps(make)
    except Exception as error:  # whatever the user's classes raise
        raise InputError(
            f"the backbone or the proxy cannot be sent to other processes ({error}): take jobs=1 without a "
            "trial_timeout",
            "jobs=1",
            "trial_timeout",
        ) from error
    workers: list[Worker] = []

    def evaluate(
        policies: Sequence[UpdatePolicy], facts: Sequence[Mapping[str, object]] = ()
    ) -> Iterator[tuple[int, Score | str]]:
        died = []
        for place, result in _score_all(workers, dict(enumerate(policies)), timeout):
            if result is None:
                died.append(place)
            else:
                yield place, result
        for place in died:
            for _, result in _score_all(workers[:1], {place: policies[place]}, timeout):
                yield place, result or "the process that scored it died twice, perhaps for want of memory"

    try:
        with starting_processes():
            for _ in range(jobs):  # now, so that they are ready when the caller is
                workers.append(Worker(content))
        yield evaluate
    finally:
        # What still runs is of no use to anyone: the next session will score it.
        for worker in workers:
            worker.end()


def _score_all(
    workers: Sequence[Worker], policies: Mapping[int, UpdatePolicy], timeout: float | None
) -> Iterator[tuple[int, Score | str | None]]:
    """Each policy's place and its score, or the reason of its failure; None where its process died."""
    waiting = deque(policies)
    while waiting or any(worker.place is not None for worker in workers):
        for worker in workers:
            if worker.ready and waiting:
                place = waiting.popleft()
                worker.ask(place, policies[place])
        for worker in heard(workers, timeout):
            scored, result = worker.hear(timeout)
            if scored is not None:
                yield scored, result
