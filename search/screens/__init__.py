"""Screens: what ranks every policy of a space at once, without training any.

`SCREENS` has them by name; a package adds its own by an entry point `tinysearch.screens`.
"""

from collections.abc import Callable

import numpy as np

from ...core.errors import InputError
from ...core.registry import Entry, Registry
from .base import AdditiveScore
from .task import ScreenTask

__all__ = ["SCREENS", "AdditiveScore", "Screen", "ScreenTask", "make_screen"]

#: Scores the tensors of a task's network. It depends on the task alone, not on the global random state, and leaves the
#: task as it is. A tensor that it says nothing of has the value 0.
Screen = Callable[[ScreenTask], AdditiveScore]


def _check(thing: object) -> None:
    if not callable(thing):
        raise TypeError(f"a {type(thing).__name__}, where a function from a ScreenTask to an AdditiveScore is needed")


#: All screens, by name.
SCREENS: Registry[Screen] = Registry(
    "screen",
    [
        Entry.at(
            "tangent",
            "search.screens.tangent:tangent",
            "how far, and in how many directions, a tensor can move the network's answers",
        ),
        Entry.at("fisher", "search.screens.fisher:fisher", "squared gradient of the support loss"),
        Entry.at(
            "sign-alignment",
            "search.screens.sign_alignment:sign_alignment",
            "how far a first step on some images would lower the loss on others",
        ),
        Entry.at("count", "search.screens.count:count", "number of weight tensors that train, which others must beat"),
    ],
    _check,
)


def make_screen(name: str, task: ScreenTask) -> AdditiveScore:
    """The scores that a screen gives to the policies of a task.

    Args:
        name: Which screen.
        task: The network and its images.

    Raises:
        InputError: There is no screen of that name, another package's fails, or values are not finite.
        UnsupportedError: The network has a layer of which no gradients can be told apart by images.

    Example:
        >>> import torch
        >>> import tinysearch as ts
        >>> from tinysearch.search.screens import ScreenTask, make_screen
        >>> from tinysearch.spaces.table import UpdateTable
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=2, input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> images, labels = torch.linspace(-1, 1, 8 * 3072).view(8, 3, 32, 32), torch.arange(8) % 2
        >>> score = make_screen("tangent", ScreenTask(backbone, trace, images, labels))
        >>> policies = [ts.methods.last(trace), ts.methods.bias(trace), ts.methods.full(trace)]
        >>> last, bias, full = score(UpdateTable.of(trace, policies))
        >>> bool(last < bias < full)
        True
    """
    screen = SCREENS.load(name)
    with SCREENS.blaming(name):
        score = screen(task)
        if not isinstance(score, AdditiveScore):
            raise TypeError(f"it gives a {type(score).__name__}, where an AdditiveScore is needed")
    if not all(np.isfinite(values).all() for values in (score.weight, score.bias, score.scale)):
        raise InputError(f"values of the screen {name!r} are not finite: check the backbone's weights and the images")
    return score
