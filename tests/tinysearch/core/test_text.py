"""Names of others do nothing but stand where they are put."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core.listing import Listing
from tinysearch.core.text import in_comment, in_markdown, printable

ODD = "a\x1b[2J\r\n\u202e\u2028\x9b[red]$x_1$*/\\\ud800"


def test_what_is_odd_is_written_out() -> None:
    assert printable(ODD) == r"a\u001b[2J\u000d\u000a\u202e\u2028\u009b[red]$x_1$*/" + "\\" + r"\ud800"
    assert printable("größer, 日本, 🙂") == "größer, 日本, 🙂"
    assert printable("a\nb\r", lines=True) == "a\nb\\u000d"


@given(st.text(st.characters(), max_size=50))
def test_it_can_be_printed_and_stays_on_its_line(text: str) -> None:
    for shown in (printable(text), in_comment(text), in_markdown(text)):
        assert len(shown.splitlines()) <= 1
        shown.encode()
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in shown)


@given(st.text(st.sampled_from("*/\\?a"), max_size=12))
def test_a_comment_of_c_ends_where_it_should(text: str) -> None:
    line = f"/* {in_comment(text)} */"
    assert line.index("*/", 2) == len(line) - 2
    assert "/*" not in line[2:]
    assert "??" not in line


def test_markdown_and_html_are_text() -> None:
    assert not set("`<>|$[]") & set(in_markdown("`<script>` | $x$ [a](b)"))


def test_a_listing_is_of_plain_cells() -> None:
    shown = Listing(ODD, ("name",), [(ODD,)], notes=(ODD,)).render("table")
    assert not set("\x1b\r\u202e\u2028\x9b\ud800") & set(shown)
