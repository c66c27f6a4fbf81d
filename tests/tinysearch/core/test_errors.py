"""A message names options as Python does, and the command line writes them in its own way."""

import pickle

import pytest

from tinysearch.cli import _flag
from tinysearch.core.errors import ConflictError, InputError


@pytest.mark.parametrize(
    ("message", "options", "told"),
    [
        ("raise max_memory (RAM: 1 B)", ["max_memory"], "raise --max-memory (RAM: 1 B)"),
        ("no weights here: give weights=FILE", ["weights=FILE"], "no weights here: give --weights FILE"),
        (
            "a smaller input_size, batch or backbone",
            ["input_size", "batch"],
            "a smaller --input-size, --batch or backbone",
        ),
        # A path or a word before may hold the same letters.
        ("/tmp/out: is no run: choose another out", ["out"], "/tmp/out: is no run: choose another --out"),
        ("max_memory_x is not max_memory", ["max_memory"], "max_memory_x is not --max-memory"),
        ("nothing is named", ["seed"], "nothing is named"),
        ("may run, by backbone=a.b:c", ["backbone=a.b:c"], "may run, by --backbone a.b:c"),
    ],
)
def test_options_are_written_as_flags(message, options, told):
    error = InputError(message, *options)
    assert str(error) == message
    assert error.told(_flag) == told


def test_an_error_that_comes_from_another_process_still_knows_its_options():
    error = pickle.loads(pickle.dumps(ConflictError("choose another out", "out")))
    assert (str(error), error.options) == ("choose another out", ("out",))


def test_a_message_is_a_line_whatever_names_are_in_it() -> None:
    error = InputError("layer 'a\x1b[2J\nb' in a\udcff: raise max_memory", "max_memory")
    assert str(error) == r"layer 'a\u001b[2J\u000ab' in a\udcff: raise max_memory"
    assert error.told(lambda option: "-m").endswith("raise -m")
