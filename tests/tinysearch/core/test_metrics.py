"""The table of quantities is of the fields that records have, and reads what it writes."""

from dataclasses import fields

import pytest

from tinysearch.core.errors import InputError
from tinysearch.core.metrics import LIMITED, METRICS
from tinysearch.results.pareto import OBJECTIVES
from tinysearch.results.records import TrialRecord


def test_every_objective_and_every_number_of_a_trial_is_a_metric() -> None:
    assert {objective.name: objective.minimise for objective in OBJECTIVES}.items() <= {
        name: metric.minimise for name, metric in METRICS.items()
    }.items()
    counted = {field.name for field in fields(TrialRecord) if field.name.endswith(("_bytes", "_s", "_j", "macs"))}
    assert counted <= METRICS.keys()
    assert [name for name, metric in METRICS.items() if not metric.minimise] == ["accuracy"]


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_is_read_as_it_is_shown(name: str) -> None:
    metric = LIMITED[name]
    for value in (1, 4, 200):
        assert metric.read(metric.show(value)) == value
        assert metric.read(value) == value
    for wrong in (-1, float("nan"), "-1 B", "much"):
        with pytest.raises(InputError):
            metric.read(wrong)
