"""Quantities: exact where they are given, refused where they are not quantities, read back as printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.core.units import (
    HERTZ,
    format_bytes,
    format_joules,
    format_seconds,
    parse_bytes,
    parse_joules,
    parse_quantity,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("256KiB", 262_144),
        ("256 KiB", 262_144),
        ("1 KB", 1000),
        ("1kB", 1000),
        ("1.5MiB", 1_572_864),
        ("2 GB", 2_000_000_000),
        ("4GiB", 4 * 2**30),
        (" 12 B ", 12),
        ("4096", 4096),
        (4096, 4096),
        ("1e3 B", 1000),
        ("0", 0),
    ],
)
def test_bytes(text, value):
    assert parse_bytes(text) == value


def test_other_quantities():
    assert parse_seconds("800ms") == pytest.approx(0.8)
    assert parse_seconds("2 min") == 120
    assert parse_joules("2J") == 2
    assert parse_joules("5mJ") == pytest.approx(5e-3)
    assert parse_quantity("216 MHz", HERTZ) == 216e6


@pytest.mark.parametrize(
    "text",
    ["", "KiB", "12 kib", "12 Kib", "1,5 KiB", "-1 KiB", "1.5 B", "0.3", "1e400 B", "nan B", "1 KiB 2", "0x10", True],
)
def test_what_is_no_number_of_bytes(text):
    with pytest.raises(InputError):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["800", "800 MS", "ms", "-1s", "1 J", "inf s"])
def test_what_is_no_duration(text):
    with pytest.raises(InputError):
        parse_seconds(text)


@given(st.integers(0, 2**50))
def test_whole_bytes_are_exact_and_printed_ones_within_rounding(value):
    assert parse_bytes(str(value)) == parse_bytes(value) == parse_bytes(f"{value} B") == value
    shown = format_bytes(value)
    assert len(shown) <= 9 or value >= 2**40
    assert parse_quantity(shown, {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}) == pytest.approx(value, rel=6e-3)


@given(st.floats(1e-9, 9e5, allow_nan=False))
def test_printed_seconds_and_joules_read_back(value):
    assert parse_seconds(format_seconds(value)) == pytest.approx(value, rel=6e-3)
    if value >= 1e-6:
        assert parse_joules(format_joules(value)) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (2**20 - 1, "1 MiB")]
)
def test_bytes_as_people_read_them(value, text):
    assert format_bytes(value) == text


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_in_one_line(text):
    message = ""
    try:
        parse_bytes(text)
    except InputError as refused:
        message = str(refused)
    assert "\n" not in message
