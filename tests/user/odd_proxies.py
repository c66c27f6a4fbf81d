"""A proxy that misbehaves over policies that it is told, as users' own may."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tinysearch.core.errors import MissingDataError
from tinysearch.search.proxies.base import Proxy, Score
from tinysearch.spaces.policy import UpdatePolicy


def fair(policy: UpdatePolicy) -> Score:
    accuracy = int(policy.hash[:4], 16) / 0xFFFF
    return Score(accuracy, 0.01, 1 - accuracy, 1e-3, 0.5)


class Odd(Proxy):
    """Scores fairly, but for what is said of a policy's hash.

    Args:
        habits: By hash, what to do instead.
        folder: Where it notes what it was asked for.
    """

    def __init__(self, habits: Mapping[str, str], folder: Path) -> None:
        self._habits, self._folder = habits, folder

    def __call__(self, policy: UpdatePolicy) -> Score:
        habit = self._habits.get(policy.hash, "")
        with (self._folder / "asked").open("a") as file:
            file.write(f"{policy.hash} {os.getpid()}\n")
        if habit == "hang":
            time.sleep(600)
        if habit == "die" or (habit == "die once" and self._first_time(policy)):
            os.kill(os.getpid(), signal.SIGKILL)
        if habit == "exit":
            os._exit(3)
        if habit == "leave":  # a process that outlives this one and holds its pipe
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(3)
        if habit == "quit":
            sys.exit(0)
        if habit == "strange":
            return Score(0.5, 0.0, 0.0, 1e-3, 0.0, images=lambda: None)  # type: ignore[arg-type]
        if habit == "raise":
            raise KeyError("no such thing\nand more")
        if habit == "give up":
            raise MissingDataError("the images are gone")
        if habit == "memory":
            raise MemoryError
        if habit == "nan":
            return Score(float("nan"), 0.0, 0.0, 1e-3, 0.0)
        if habit == "nothing":
            return None  # type: ignore[return-value]
        return fair(policy)

    def _first_time(self, policy: UpdatePolicy) -> bool:
        return (self._folder / "asked").read_text().count(policy.hash) == 1


class Large(Odd):
    """One that is sent with more than a pipe holds at once."""

    def __init__(self, habits: Mapping[str, str], folder: Path, ballast: bytes) -> None:
        super().__init__(habits, folder)
        self._ballast = ballast


def make(habits: Mapping[str, str], folder: Path) -> "partial[Odd]":
    return partial(Odd, habits, folder)


def unmakeable() -> Proxy:
    raise OSError("the disk is gone")
