"""Registries: what is built in, what packages and programs add, and what goes wrong with that."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tinysearch.core import registry as module
from tinysearch.core.errors import BudgetError, ConflictError, InputError
from tinysearch.core.registry import Entry, Registry


@dataclass
class Point:
    """An entry point as importlib finds it."""

    name: str
    value: str
    thing: Any
    package: str = "acme"

    @property
    def dist(self) -> Any:
        return type("Distribution", (), {"name": self.package})

    def load(self) -> Any:
        if isinstance(self.thing, BaseException):
            raise self.thing
        return self.thing


def need_text(thing: Any) -> None:
    if not isinstance(thing, str):
        raise TypeError(f"a {type(thing).__name__}, where a text is needed")


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[str]]:
    def make(*points: Point, **settings: Any) -> Registry[str]:
        monkeypatch.setattr(module, "entry_points", lambda group: list(points) if group == "tinysearch.colours" else [])
        return Registry("colour", [Entry.of("red", "#f00", "like blood")], need_text, **settings)

    return make


def test_what_is_built_in_needs_no_look_at_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "entry_points", lambda group: pytest.fail("looked"))
    colours = Registry[str]("colour", [Entry.of("red", "#f00")])
    assert colours.load("red") == "#f00"
    assert "red" in colours


def test_a_package_adds_entries_that_are_loaded_when_they_are_used(colours: Callable[..., Registry[str]]) -> None:
    found = colours(Point("green", "acme:green", "#0f0"), Point("broken", "acme:broken", ImportError("no\nacme")))
    assert list(found) == ["red", "broken", "green"]
    assert found.load("green") == "#0f0"
    assert found["green"].origin == "acme"
    with pytest.raises(InputError, match=r"^the colour 'broken' of acme cannot be loaded: ImportError: no acme$"):
        found.load("broken")
    with pytest.warns(UserWarning, match="'broken' of acme cannot be loaded.*: it is left out"):
        assert found.loaded() == {"red": "#f00", "green": "#0f0"}


def test_an_object_of_another_kind_is_refused(colours: Callable[..., Registry[str]]) -> None:
    found = colours(Point("seven", "acme:seven", 7))
    with pytest.raises(InputError, match="the colour 'seven' of acme is none: a int, where a text is needed"):
        found.load("seven")
    with pytest.raises(InputError, match="the colour 'seven' of this program is none"):
        colours().add("seven", 7)  # type: ignore[arg-type]


def test_a_taken_name_is_refused_with_both_owners(colours: Callable[..., Registry[str]]) -> None:
    points = (Point("red", "a", "#e00"), Point("red-5", "b", "#e00"), Point("green", "c", "x"))
    other = Point("green", "d", "y", package="umbrella")
    found = colours(*points, other, taken=lambda name: name.startswith("red-"))
    with pytest.warns(UserWarning, match="refused") as caught:
        assert list(found) == ["red", "green"]
    assert [str(warning.message) for warning in caught] == [
        "the colour 'green' of umbrella is refused: acme has that name",
        "the colour 'red' of acme is refused: tinysearch has that name",
        "the colour 'red-5' of acme is refused: tinysearch has that name",
    ]
    assert (found.load("red"), found.load("green")) == ("#f00", "x")
    for name, owner in (("red", "tinysearch"), ("red-7", "tinysearch"), ("green", "acme")):
        with pytest.raises(ConflictError, match=f"is there already, from {owner}"):
            found.add(name, "#000")


def test_a_package_that_is_found_twice_is_no_clash(colours: Callable[..., Registry[str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(colours(Point("green", "a", "x"), Point("green", "a", "x"))) == ["red", "green"]


def test_a_program_adds_and_removes(colours: Callable[..., Registry[str]]) -> None:
    found = colours()
    found.add("blue", "#00f", "like the sky")
    assert [(entry.name, entry.summary) for entry in found.entries()] == [
        ("red", "like blood"),
        ("blue", "like the sky"),
    ]
    found.remove("blue")
    with pytest.raises(InputError, match=r"no colour named 'blue': there are red$"):
        found["blue"]


def test_where_there_is_none_it_is_said_how_one_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "entry_points", lambda group: [])
    with pytest.raises(InputError, match=r"none; a package adds one by an entry point of the group tinysearch\.odd$"):
        Registry[str]("odd thing", plural="odd").load("x")


@pytest.fixture
def odd(colours: Callable[..., Registry[str]]) -> Registry[str]:
    return colours(Point("green", "acme:green", "#0f0"))


def test_failing_code_of_a_package_is_one_line_and_mistakes_of_the_caller_stay(odd: Registry[str]) -> None:
    with pytest.raises(InputError, match=r"^the colour 'green' of acme failed: KeyError: 'x'$"), odd.blaming("green"):
        raise KeyError("x")
    with pytest.raises(BudgetError), odd.blaming("green"):
        raise BudgetError("too much")
    with pytest.raises(KeyError), odd.blaming("red"):
        raise KeyError("ours")
