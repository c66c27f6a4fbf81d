"""YAML of users: what it says, on which line, and what is refused of it."""

import time

import pytest

from tinysearch.core.errors import InputError
from tinysearch.core.yaml_text import parse_yaml

TEXT = """\
first: 1
second:
  - {a: 1}
  - b: two
    c: [1, 2]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("first",), 1),
        (("second", 0, "a"), 3),
        (("second", 1, "c", 1), 5),
        (("second", 1, "missing", "more"), 4),
        (("second", 9), 2),
    ],
)
def test_every_value_has_its_line(path: tuple[int | str, ...], line: int) -> None:
    assert parse_yaml(TEXT, "x").line(path) == line


def test_an_empty_text_says_nothing() -> None:
    read = parse_yaml("", "x")
    assert (read.values, read.line(("a",))) == (None, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\n", "x, line 2: no YAML"),
        ("a: 1\nb: &n 2\nc: *n\n", "x, line 3: YAML aliases"),
        ("a: 1\nb: {c: 1, c: 2}\n", "x, line 2: c is given twice"),
        ("a: 1\nb: [.nan]\n", "x, line 2: b.0: must be a finite number"),
        ("a: 1\nb: 0x" + "f" * 9000, "x, line 2: b: is a whole number of 36000 bits"),
        ("a: " + "[" * 200_000, "nest"),
        ("a: !!python/object/apply:os.system [x]", "x, line 1: YAML tags"),
        ("? [a]\n: 1", "no YAML"),
        ("a: \x00", "no YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_wrong_is_one_line_at_once(text: str, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10
