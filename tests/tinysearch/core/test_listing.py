"""Listings: the same rows in every form, metrics written as metrics."""

import csv
import io
import json

import pytest
import yaml

from tinysearch.core.errors import InputError
from tinysearch.core.listing import FORMS, Column, Listing

ROWS = [("a", 2048, 0.0125, None, 0), ("[b]x[/b]", 0, 1.5, ("one", "two"), 3)]
LISTING = Listing("Things", ("name", "peak_bytes", "latency_s", "warnings", "count"), ROWS, notes=("[n]ote",))


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_a_metric_is_written_with_its_unit_and_its_heading_without() -> None:
    text = LISTING.render("table")
    assert cells(text)[0] == ["a", "2 KiB", "12.5 ms", "", ""]
    assert cells(text)[1][:3] == ["[b]x[/b]", "0 B", "1.5 s"]
    assert cells(text)[1][4] == "3"
    header = next(line for line in text.splitlines() if "name" in line)
    assert "peak " in header
    assert "bytes" not in header
    assert text.splitlines()[-1] == "[n]ote"
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_show_goes_before_the_metric() -> None:
    listing = Listing("", ("peak_bytes",), [(2048,)], {"peak_bytes": lambda value: f"{value} octets"})
    assert cells(listing.render("table")) == [["2048 octets"]]


def test_other_forms_hold_values_in_base_units() -> None:
    records = json.loads(LISTING.render("json"))
    assert records == [dict(zip(LISTING.columns, json.loads(json.dumps(row)), strict=True)) for row in ROWS]
    rows = list(csv.DictReader(io.StringIO(LISTING.render("csv"))))
    assert [row["latency_s"] for row in rows] == ["0.0125", "1.5"]
    assert [row["warnings"] for row in rows] == ["", "one; two"]


def test_a_table_may_show_other_columns_and_json_more_than_the_rows() -> None:
    table, whole = (Column("who", ["A", "B"]),), {"x": 1}
    listing = Listing("", ("name", "loss"), [("a", 1), ("b", 2)], table=table, marks=["", "[1]"], whole=whole)
    assert cells(listing.render("table")) == [["A"], ["B [1]"]]
    assert json.loads(listing.render("json")) == yaml.safe_load(listing.render("yaml")) == whole
    assert listing.render("csv") == "name,loss\na,1\nb,2\n"


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_have_every_form(form: str) -> None:
    assert Listing("Empty", ("a", "b"), []).render(form)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="table, json, yaml, csv"):
        LISTING.render("xml")
