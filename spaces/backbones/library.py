"""What is asked of a library of networks, and how to reach one that need not be installed."""

import difflib
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from ...core.errors import InputError, MissingDataError
from ...core.registry import one_line
from .info import Normalisation
from .operators import declare_operators

#: How messages name the options of other weights.
_FILE, _NONE = "weights=FILE", "weights=none"


class Facts(NamedTuple):
    """What a library says of one of its networks before it is built.

    Attributes:
        input_size: Side of the images that its weights were trained with, in pixels.
        normalisation: How it wants them.
        published: Whether there are weights.
        sizes: `any`: it takes images of any size; `built`: of the one that it is built for; `own`: of its own alone.
    """

    input_size: int
    normalisation: Normalisation
    published: bool
    sizes: Literal["any", "built", "own"] = "any"


class Library(ABC):
    """A library of networks.

    Attributes:
        package: What is imported, and the prefix of its backbones.
    """

    package: ClassVar[str]

    @abstractmethod
    def facts(self, name: str) -> Facts:
        """What is known of a network.

        Raises:
            InputError: There is none of this name, or the library is not installed.
        """

    @abstractmethod
    def build(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network with random weights; `size` is the side of its images where it is built for one.

        Raises:
            InputError: It cannot be built so.
        """

    @abstractmethod
    def published(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network with the weights that the library publishes; the head is new unless it has as many classes.

        Raises:
            InputError: It cannot be built so.
            MissingDataError: The weights are not here and could not be fetched.
        """

    def converted(self, model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's entries as this network of the library has them, by the library's own means."""
        return state

    def imported(self, module: str = "") -> Any:
        """The library, or a module of it.

        Raises:
            InputError: It is not installed, or cannot be imported.
        """
        try:
            with _installed_alone():
                declare_operators()
                library = importlib.import_module(self.package)
                return importlib.import_module(f"{self.package}.{module}") if module else library
        except ModuleNotFoundError as error:
            if error.name != self.package:
                raise InputError(f"importing {self.package} failed: {one_line(error)}") from error
            raise InputError(
                f"backbones of {self.package} need it installed: pip install 'tinysearch[{self.package}]'"
            ) from error
        except Exception as error:  # a library of another build than its torch fails in ways of its own
            raise InputError(
                f"importing {self.package} failed: {one_line(error)}; torch and torchvision must be of one build: "
                "install both from the same index"
            ) from error

    def unknown(self, name: str, names: Sequence[str], why: str = "") -> InputError:
        """The error of a name that the library has not, or has for something else."""
        close = [f"{self.package}:{other}" for other in difflib.get_close_matches(name, names, n=3)]
        hint = f": did you mean {' or '.join(close)}?" if close else f" (its list_models() has {len(names)} names)"
        return InputError(f"backbone '{self.package}:{name:.80}': {why or f'{self.package} has no such network'}{hint}")

    def cannot_build(self, name: str, size: int | None, error: Exception) -> InputError:
        """The error of a network that cannot be built as it was asked for."""
        what = f"backbone {self.package}:{name} cannot be built"
        if size is None:
            return InputError(f"{what}: {one_line(error)}")
        option = f"input_size={self.facts(name).input_size}"
        reason = one_line(error)
        return InputError(f"{what} for images of {size} pixels: {reason:.160}; its own size is {option}", option)

    def unpublished(self, name: str) -> InputError:
        """The error of a network that has no weights."""
        text = f"{self.package} publishes no weights of {name}: pass {_FILE}, or {_NONE} for random ones"
        return InputError(text, _FILE, _NONE)

    def unreachable(self, name: str, error: Exception) -> MissingDataError:
        """The error of weights that could not be fetched."""
        reason = one_line(error).split(". ")[0]
        return MissingDataError(
            f"cannot get the weights of {self.package}:{name} ({reason:.160}): fetch them where there is a network "
            f"and pass {_FILE}, or {_NONE} for random ones",
            _FILE,
            _NONE,
        )


@contextmanager
def _installed_alone() -> Iterator[None]:
    """Import nothing of the folder that the command is called in, where a user's own backbones are looked for.

    Else a file timm.py beside a policy that names a network of timm would run where timm is not installed.
    """
    before = sys.path[:]
    sys.path[:] = [entry for entry in before if entry]
    try:
        yield
    finally:
        sys.path[:] = before
