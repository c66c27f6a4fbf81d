"""Modules are found at their former places too."""

import sys
from importlib import import_module

import pytest

from tinysearch.core.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_what_moved_is_found_at_its_former_place_with_a_word_on_the_new_one(old, new):
    sys.modules.pop(f"tinysearch.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"tinysearch.{old} is tinysearch.{new} now"):
        former = import_module(f"tinysearch.{old}")
    present = import_module(f"tinysearch.{new}")
    public = {name for name in vars(present) if not name.startswith("_")}
    assert public
    assert all(getattr(former, name) is getattr(present, name) for name in public)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("tinysearch.spaces.nowhere")
