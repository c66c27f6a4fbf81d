import csv
import io
import json

import pytest
import yaml

from tinysearch.core.errors import InputError
from tinysearch.core.listing import FORMS
from tinysearch.results.front import Front
from tinysearch.results.tables import render


@pytest.fixture
def sample(trial, front):
    warnings = ("latency outside the range measured",)
    return front(
        [
            trial(
                0,
                method="tinytl:L+B",
                accuracy=0.931,
                accuracy_se=0.006,
                peak_bytes=256 * 1024,
                latency_s=0.0125,
            ),
            trial(1, accuracy=0.95, peak_bytes=3 * 2**20, energy_j=None, warnings=warnings),
            trial(2, accuracy=0.96, peak_bytes=4 * 2**20, warnings=warnings, accuracy_se=None),
        ]
    )


def test_table_speaks_human(sample):
    text = render(sample, "table")
    first, second, third = (line for line in text.splitlines() if line.startswith("│"))
    for part in ("tinytl:L+B", "93.1 ± 0.6 %", "256 KiB", "12.5 ms"):
        assert part in first
    assert "found" in second
    assert "[1]" in second
    assert "[1]" in third
    assert "96.0 %" in third
    assert "[1]" not in first
    assert text.count("latency outside the range measured") == 1
    assert "digits on rpi4" in text


def test_times_that_are_not_measured_are_marked_and_others_have_an_error_bar(trial, front):
    guessed = ("time and energy on rpi4 are in part assumed: most of it",)
    trials = [trial(0, latency_s=0.0125), trial(1, latency_s=0.5, warnings=guessed)]
    text = render(front(trials, latency_error=0.07), "table")
    assert "12.5 ms ± 7 %" in text
    assert "~500 ms" in text
    assert "~ a time that is not fully backed by measurements" in text
    assert json.loads(render(front(trials), "json"))["warnings"] == list(guessed)
    assert "~" not in render(front(trials[:1]), "table")


def test_names_are_not_read_as_markup(trial, front):
    text = render(front([trial(0, method="[bold]x[/bold]")], dataset="[red]d[/red]"), "table")
    assert "[bold]x[/bold]" in text
    assert "[red]d[/red]" in text


def test_other_forms_hold_the_whole_front(sample):
    assert Front.from_json(render(sample, "json")) == sample
    assert yaml.safe_load(render(sample, "yaml")) == json.loads(sample.to_json())
    rows = list(csv.DictReader(io.StringIO(render(sample, "csv"))))
    assert [float(row["accuracy"]) for row in rows] == [member.accuracy for member in sample.members]
    assert rows[0]["method"] == "tinytl:L+B"
    assert rows[1]["method"] == ""
    assert rows[1]["warnings"] == "latency outside the range measured"


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_front_has_every_form(front, form):
    assert render(front([]), form)


def test_unknown_form(sample):
    with pytest.raises(InputError, match="table, json, yaml, csv"):
        render(sample, "xml")
