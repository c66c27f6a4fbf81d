"""A process that scores one policy after another, and may be ended or die without harm to those who ask it."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType

import torch

from ...core.errors import TinySearchError
from ...core.units import format_seconds
from ...devices.calibrate.standalone import keep_freed_memory
from ...spaces.backbones.operators import declare_operators
from ...spaces.policy import UpdatePolicy
from ..proxies.base import Proxy, Score
from .base import score

#: Seconds between looks whether processes live, for those that leave others behind which hold their pipe.
LOOK_SECONDS = 2.0
# Spawned, not forked: a fork of a process whose threads hold OpenMP's locks hangs.
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that scores policies; it begins at once, and takes a while to be ready.

    Args:
        content: The pickled function that makes the proxy.

    Attributes:
        ready: Whether it waits for a policy.
        place: Of the policy that it scores; None if there is none.
    """

    place: int | None

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._begin()

    def _begin(self) -> None:
        self.connection, far = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(far, "torchvision" in sys.modules))
        self.ready, self.place = False, None
        self._asked = 0.0
        with starting_processes():
            self._process.start()
        far.close()  # so that the end of the process is the end of the pipe
        # Not as an argument: those go through a pipe whose other end this process holds too, so that it would wait for
        # ever for a process that died meanwhile. And aside, so that other processes begin at the same time.
        self._sending = threading.Thread(target=_send, args=(self.connection, self._content), daemon=True)
        self._sending.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def ask(self, place: int, policy: UpdatePolicy) -> None:
        """Have it score a policy; one that has died meanwhile is heard of as if it had died over this one."""
        self.ready, self.place, self._asked = False, place, time.monotonic()
        with suppress(OSError):
            self.connection.send(policy)

    def left(self, timeout: float | None) -> float:
        """Seconds that it may take yet; infinity where there is no bound, or it scores nothing."""
        return inf if timeout is None or self.place is None else self._asked + timeout - time.monotonic()

    def hear(self, timeout: float | None) -> tuple[int | None, Score | str | None]:
        """What it has to say, or that it is late; a process that is late or has died is replaced.

        Returns:
            The place of the policy that it scored, and its score, or the reason of its failure; None for a score if it
            died over it, and for a place if it scored none.

        Raises:
            TinySearchError: The proxy cannot be made, or says that the work cannot go on.
        """
        place = self.place
        if not self.connection.poll() and self._process.is_alive():
            self._replace()
            return place, f"took longer than {format_seconds(timeout or 0.0)}"
        try:
            if not self.connection.poll():
                raise EOFError  # it is dead, though one that it left behind holds its end of the pipe
            said = self.connection.recv()
        except (EOFError, OSError) as error:
            if place is None and not self.ready:
                raise TinySearchError(
                    "a process that is to score policies ended as it began, perhaps for want of memory: run again with "
                    "fewer jobs; finished trials are kept",
                    "jobs",
                ) from error
            self._replace()
            return place, None
        if isinstance(said, TinySearchError):
            raise said
        self.ready, self.place = True, None
        return place, said

    def _replace(self) -> None:
        self.end()
        self._begin()

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._sending.join()
        self.connection.close()


def _send(connection: Connection, content: bytes) -> None:
    with suppress(OSError):  # it has died, which is heard of
        connection.send_bytes(content)


def heard(workers: Sequence[Worker], timeout: float | None) -> list[Worker]:
    """Workers that have something to say or have had their time; waits until there are some."""
    while True:
        left = min(worker.left(timeout) for worker in workers)
        told = wait([worker.connection for worker in workers], max(0.0, min(left, LOOK_SECONDS)))
        if found := [w for w in workers if w.connection in told or w.left(timeout) <= 0 or not w.alive]:
            return found


@contextmanager
def starting_processes() -> Iterator[None]:
    """Let processes begin without running the caller's script again, and without hearing Ctrl-C.

    A spawned process imports the main module of its parent, and so would run a script that has no
    `if __name__ == "__main__"`. It would also answer a Ctrl-C at the terminal with a traceback until it ignores it;
    blocked signals stay blocked in it, while those for this process wait until it is done here.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    masking = hasattr(signal, "pthread_sigmask")  # not on Windows
    if masking:
        resource_tracker.ensure_running()  # now, since where it has to begin it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masking else set()
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if masking:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def make_alone(content: bytes, with_torchvision: bool) -> Proxy:
    """Make the proxy in a process of its own, which computes with one thread.

    Args:
        content: The pickled function that makes it.
        with_torchvision: Whether that may need torchvision.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    if with_torchvision:
        declare_operators()  # before unpickling a network of its, or of timm, imports it
    make: Callable[[], Proxy] = pickle.loads(content)
    return make()


def _work(connection: Connection, with_torchvision: bool) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow, daemon=True).start()
    try:
        proxy = make_alone(connection.recv_bytes(), with_torchvision)
    except EOFError:  # nobody asks any more
        return
    except TinySearchError as error:
        connection.send(error)
        return
    except Exception as error:  # whatever a user's own classes raise
        connection.send(TinySearchError(f"the proxy cannot be made: {type(error).__name__}: {error}"))
        return
    connection.send(None)
    with suppress(EOFError, OSError):  # nobody asks any more
        while True:
            policy = connection.recv()
            try:
                said: Score | str | TinySearchError = score(proxy, policy)
            except TinySearchError as error:
                said = error
            try:
                connection.send(said)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                connection.send(f"the proxy gave a score that cannot be sent: {error}")


def _follow() -> None:
    """End with the process that asks, though it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
