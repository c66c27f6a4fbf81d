"""Processes that work side by side, each for itself."""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any


def run_together(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> bool:
    """Call a function once in a process of its own for each set of arguments; whether all of them ended well."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit what a CUDA device cannot share
    workers = [context.Process(target=work, args=given) for given in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return not any(worker.exitcode for worker in workers)
