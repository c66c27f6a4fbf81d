"""Additive scores."""

import numpy as np
import pytest

from tinysearch.search.screens import AdditiveScore
from tinysearch.spaces import methods
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate
from tinysearch.spaces.table import UpdateTable
from tinysearch.testing.networks import SmallNet, traced


def test_what_trains_is_summed_and_part_of_a_weight_counts_by_its_square_root() -> None:
    trace = traced(SmallNet)
    rows = len(trace.rows)
    score = AdditiveScore(trace, *(10.0**power * np.arange(1, rows + 1) for power in (0, 3, 6)))
    conv, norm = trace.index["blocks.1.layers.0"], trace.index["blocks.1.layers.1"]
    last = methods.last(trace)
    policies = [
        last,
        last.model_copy(
            update={
                "layers": (LayerUpdate(name="blocks.1.layers.0", weight=Channels(axis="in", index=(0, 5))),),
                "norms": (NormUpdate(name="blocks.1.layers.1", shift=True),),
            }
        ),
        last.model_copy(update={"norms": (NormUpdate(name="blocks.1.layers.1", shift=True, scale=True),)}),
    ]
    head = (trace.head + 1) * (1 + 1e3)
    expected = [head, head + (conv + 1) / 2 + 1e3 * (norm + 1), head + (1e3 + 1e6) * (norm + 1)]
    assert score(UpdateTable.of(trace, policies)) == pytest.approx(expected)


def test_lite_residual_modules_count_where_they_stand() -> None:
    trace = traced(SmallNet)
    ones = np.zeros(len(trace.rows))
    ones[len(trace) :] = 1
    score = AdditiveScore(trace, ones, ones, ones)
    table = UpdateTable.of(trace, [methods.full(trace), methods.tinytl(trace, "L")])
    # Two weights, two scales and two shifts a module.
    assert score(table).tolist() == [0, 6 * len(methods.tinytl(trace, "L").lite_residuals)]
