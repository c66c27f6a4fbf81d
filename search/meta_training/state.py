"""What a meta-training is resumed from: a file beside the weights that it will write, replaced at every judgement."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import ConflictError, InputError
from ...core.files import write_atomically
from ...spaces.tensor_files import read_torch

#: Larger files are refused unread: four times the parameters of the largest backbone.
MAX_BYTES = 1 << 30
#: Bumped when older files no longer fit.
VERSION = 1


@dataclass(frozen=True)
class State:
    """How far a meta-training has come.

    Attributes:
        learning_rate: Its highest rate.
        values: The network's parameters, by name.
        optimizer: What the optimizer remembers.
        best: The parameters of the best state so far, by name.
        judgements: Of each judgement so far, how many episodes had been learnt from, and the accuracies.
    """

    learning_rate: float
    values: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    judgements: list[tuple[int, list[float]]]


class StateFile:
    """The state of one meta-training on disk.

    Args:
        out: The weights that it will write.
        request: Everything that decides what comes out.

    Attributes:
        path: Where the state lies.
    """

    def __init__(self, out: Path, request: dict[str, str]) -> None:
        self.path = out.with_name(f"{out.name}.state")
        self._request = {"version": str(VERSION), **request}

    def save(self, state: State) -> None:
        """Replace the file, whole or not at all."""
        stream = io.BytesIO()
        torch.save({"request": self._request, **vars(state)}, stream)
        write_atomically(self.path, stream.getvalue())

    def load(self) -> State | None:
        """What an earlier call has left; None if it left nothing.

        Raises:
            ConflictError: It was asked for something else.
            InputError: The file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            content = read_torch(self.path, MAX_BYTES)
            request = content.pop("request")
            changed = [key for key, value in self._request.items() if request.get(key) != value]
            state = None if changed else State(**content)
        except (InputError, AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{self.path}: damaged ({type(error).__name__}): delete it to begin anew") from error
        if state is None:
            key = changed[0]
            raise ConflictError(
                f"{self.path} is of a meta-training that was stopped: {key} was {request.get(key)}, now "
                f"{self._request[key]}; ask for the same to resume, or delete it to begin anew"
            )
        return state

    def remove(self) -> None:
        """The meta-training is over."""
        self.path.unlink(missing_ok=True)
