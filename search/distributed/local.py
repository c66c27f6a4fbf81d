"""Scoring policies: in this process, or several at once in processes of their own.

Every process computes with one thread: the small operations of these networks gain little from more, and results
do not depend on how many policies are scored at once.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType

import torch

from ...core.errors import InputError, TinySearchError
from ...devices.calibrate.standalone import keep_freed_memory
from ...spaces.backbones.operators import declare_operators
from ...spaces.policy import UpdatePolicy
from ..proxies.base import Proxy, Score
from ..threads import one_thread
from .base import Evaluate


@contextmanager
def evaluator(make: Callable[[], Proxy], jobs: int) -> Iterator[Evaluate]:
    """A function of this machine that scores policies, `jobs` of them at once.

    Args:
        make: Makes the proxy; called once per process, so it and what it refers to must be picklable if `jobs` > 1.
        jobs: Processes; 1 is this one.

    Yields:
        The function. It raises TinySearchError if a process dies.

    Raises:
        InputError: The proxy cannot be sent to other processes.
    """
    if jobs == 1:
        with one_thread():
            proxy = make()
            yield lambda policies: ((n, _score(proxy, policy)) for n, policy in enumerate(policies))
        return
    try:
        content = pickle.dumps(make)
    except Exception as error:  # whatever the user's classes raise
        raise InputError(
            f"the backbone or the proxy cannot be sent to other processes ({error}): take jobs=1", "jobs=1"
        ) from error
    # Spawned, not forked: a fork of a process whose threads hold OpenMP's locks hangs.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_initialise, initargs=(content, "torchvision" in sys.modules)
    )

    def evaluate(policies: Sequence[UpdatePolicy]) -> Iterator[tuple[int, Score | str]]:
        try:
            with _starting_processes():
                futures: dict[Future[Score | str], int] = {
                    pool.submit(_score_here, policy): n for n, policy in enumerate(policies)
                }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise TinySearchError(
                "a process that scored policies died, perhaps for want of memory; finished trials are kept: run again "
                "with fewer jobs",
                "jobs",
            ) from error

    processes: list[multiprocessing.process.BaseProcess] = []
    try:
        with _starting_processes():
            for _ in range(jobs):  # now, so that they are ready when the caller is
                pool.submit(_nothing)
        yield evaluate
    except BaseException:
        # What still runs is of no use to anyone: the next session will score it.
        processes = list((pool._processes or {}).values())
        raise
    finally:
        pool.shutdown(wait=not processes, cancel_futures=True)
        for process in processes:
            process.terminate()


@contextmanager
def _starting_processes() -> Iterator[None]:
    """Let processes begin without running the caller's script again, and without hearing Ctrl-C.

    A spawned process imports the main module of its parent, and so would run a script that has no
    `if __name__ == "__main__"`. It would also answer a Ctrl-C at the terminal with a traceback until its initialiser
    has run; blocked signals stay blocked in it, while those for this process wait until it is done here.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    masking = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masking else set()
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if masking:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_proxy: Proxy | None = None


def _initialise(content: bytes, with_torchvision: bool) -> None:
    global _proxy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # the parent was killed

    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    if with_torchvision:
        declare_operators()  # before unpickling a network of its, or of timm, imports it
    make: Callable[[], Proxy] = pickle.loads(content)
    _proxy = make()


def _nothing() -> None:
    pass


def _score_here(policy: UpdatePolicy) -> Score | str:
    assert _proxy is not None
    return _score(_proxy, policy)


def _score(proxy: Proxy, policy: UpdatePolicy) -> Score | str:
    try:
        return proxy(policy)
    # What PyTorch raises, and what the proxy does when training diverges: one policy's failure, not the run's.
    except (RuntimeError, FloatingPointError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
