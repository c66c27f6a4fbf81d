"""Things that have a name and that others may add to: samplers, proxies, optimizers, devices and all other kinds.

An entry is an object, or the place where one lies, which is imported when the object is first asked for: names and help
texts cost no import. A package adds entries by entry points of the group `tinysearch.<plural>`, and a program by `add`.
A name is given once: one that is taken is refused.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from inspect import getdoc
from typing import Any, Generic, TypeVar

from .errors import ConflictError, InputError, TinySearchError

Thing = TypeVar("Thing")

#: Who brings the entries that are built in.
BUILT_IN = "tinysearch"


@dataclass(frozen=True, slots=True)
class Entry(Generic[Thing]):
    """One name of a registry.

    Attributes:
        name: What users call it.
        origin: The package that brings it.
        load: Gives the object; imports what it lies in.
        stated: What it is, in a line, where that is said beside the name.
    """

    name: str
    origin: str
    load: Callable[[], Thing]
    stated: str = ""

    @classmethod
    def of(cls, name: str, thing: Thing, summary: str = "") -> "Entry[Thing]":
        """A built-in entry whose object is there."""
        return cls(name, BUILT_IN, lambda: thing, summary)

    @classmethod
    def at(cls, name: str, place: str, summary: str) -> "Entry[Thing]":
        """A built-in entry whose object lies at a place of this package, such as "search.samplers.optuna:nsga2"."""
        return cls(name, BUILT_IN, lambda: _find(place), summary)

    @property
    def summary(self) -> str:
        """What it is, in a line: as stated, or its own `summary`, or the first line of its docstring."""
        if self.stated:
            return self.stated
        thing = self.load()
        own = getattr(thing, "summary", None)
        return own if isinstance(own, str) else (getdoc(thing) or "").partition("\n")[0]


@dataclass(eq=False)
class Registry(Generic[Thing]):
    """The things of one kind, by name.

    Args:
        kind: What one is called, as "sampler".
        built_in: The entries of this package.
        check: Is given an object that someone else brought, and raises a TypeError that says what it lacks.
        plural: What several are called, which names their group; the kind with an s without it.
        taken: Whether a name that is no entry is built in all the same, as one of many that a pattern gives.

    Example:
        >>> colours = Registry[str]("colour")
        >>> colours.add("red", "#f00")
        >>> colours.load("red")
        '#f00'
        >>> colours.load("rde")
        Traceback (most recent call last):
            ...
        tinysearch.core.errors.InputError: no colour named 'rde': there are red
    """

    kind: str
    built_in: Iterable[Entry[Thing]] = ()
    check: Callable[[Any], None] = lambda thing: None
    plural: str = ""
    taken: Callable[[str], bool] = lambda name: False
    _entries: dict[str, Entry[Thing]] = field(init=False, default_factory=dict)
    _searched: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.plural = self.plural or f"{self.kind}s"
        self._entries |= {entry.name: entry for entry in self.built_in}

    @property
    def group(self) -> str:
        """The group of entry points by which a package adds to it."""
        return f"tinysearch.{self.plural}"

    def add(self, name: str, thing: Thing, summary: str = "", *, origin: str = "this program") -> None:
        """Add an object under a name that is free.

        Raises:
            ConflictError: The name is taken; who has it is said.
            InputError: The object is not what the kind has to be.
        """
        if owner := self._owner(self._all, name):
            raise ConflictError(f"the {self.kind} {name!r} is there already, from {owner}: take another name")
        self._checked(name, origin, thing)
        self._entries[name] = Entry(name, origin, lambda: thing, summary)

    def remove(self, name: str) -> None:
        """Take away what `add` added."""
        self[name]
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry[Thing]:
        """The entry of a name.

        Raises:
            InputError: There is none; those that there are are named.
        """
        # What is built in is found without a look at what else is installed.
        entry = self._entries.get(name) or self._all.get(name)
        if entry is None:
            raise InputError(f"no {self.kind} named {name!r:.60}: {self.names()}")
        return entry

    def load(self, name: str) -> Thing:
        """The object of a name.

        Raises:
            InputError: There is none of that name, or what a package brings cannot be used.
        """
        return self[name].load()

    def loaded(self) -> dict[str, Thing]:
        """The objects of all entries, by name; what a package brings and cannot be used is left out with a warning."""
        things: dict[str, Thing] = {}
        for entry in self.entries():
            try:
                things[entry.name] = entry.load()
            except InputError as error:
                if entry.origin == BUILT_IN:
                    raise
                warnings.warn(f"{error}: it is left out", stacklevel=2)
        return things

    @contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """Say whose fault it is when the code of an entry fails; mistakes of the caller stay what they are.

        Raises:
            InputError: What the body ran into, as one line that names the package which brings the entry.
        """
        origin = self[name].origin
        try:
            yield
        except TinySearchError:
            raise
        except Exception as error:  # whatever the package's own code raises
            if origin == BUILT_IN:
                raise
            raise InputError(f"the {self.kind} {name!r} of {origin} failed: {one_line(error)}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def entries(self) -> tuple[Entry[Thing], ...]:
        """All entries: the built-in ones first, then those of packages, by name."""
        return tuple(self._all.values())

    def names(self) -> str:
        """The names for a message, as "there are nsga2, tpe, random"; how one is added where there is none."""
        if not self._all:
            return f"there is none; a package adds one by an entry point of the group {self.group}"
        return f"there are {', '.join(self._all)}"

    @property
    def _all(self) -> dict[str, Entry[Thing]]:
        if not self._searched:
            self._searched = True
            for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
                self._add_point(point.name, point.dist.name if point.dist else point.value, point.load)
        return self._entries

    def _add_point(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        if owner := self._owner(self._entries, name):
            if owner != origin:  # a package may be found twice, on two paths
                warnings.warn(f"the {self.kind} {name!r} of {origin} is refused: {owner} has that name", stacklevel=4)
            return

        def loaded() -> Thing:
            try:
                thing = load()
            except (Exception, SystemExit) as error:  # whatever the package's own code raises
                raise InputError(f"the {self.kind} {name!r} of {origin} cannot be loaded: {one_line(error)}") from error
            return self._checked(name, origin, thing)

        self._entries[name] = Entry(name, origin, loaded)

    def _owner(self, entries: dict[str, Entry[Thing]], name: str) -> str:
        """Who has a name; empty where it is free."""
        if name in entries:
            return entries[name].origin
        return BUILT_IN if self.taken(name) else ""

    def _checked(self, name: str, origin: str, thing: Any) -> Thing:
        try:
            self.check(thing)
        except TypeError as error:
            raise InputError(f"the {self.kind} {name!r} of {origin} is none: {error}") from error
        return thing  # type: ignore[no-any-return]


def one_line(error: BaseException) -> str:
    """An error of someone else's code as one line: its type and its message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def _find(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"..{module}", __package__), attribute)
