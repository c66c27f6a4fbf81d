"""The ground truth that comes with the package, and what it says of values that rank."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.search.ground_truth import Cell, ground_truth, ranking, records

ROOT = Path(__file__).resolve().parent.parent.parent
CELLS = [cell.name for cell in ground_truth().cells]


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> Cell:
    return ground_truth().cell(request.param)


def test_the_file_is_small_and_says_what_it_is() -> None:
    truth = ground_truth()
    assert (ROOT / "search" / "ground_truth" / records.FILE).stat().st_size < 500_000
    assert CELLS == ["cifar10-20", "gtsrb-all", "dtd10-20"]
    assert (truth.backbone, truth.input_size, truth.optimizer, truth.batch) == ("mobilenetv2-w0.35-tf", 96, "adam", 32)
    assert "float32" in truth.measured
    assert "gtsrb-all has 98 of the 116" in truth.missing


def test_loading_it_needs_no_torch() -> None:
    code = "import sys, tinysearch; tinysearch.ground_truth().cells[0].accuracy; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_shapes_agree_and_values_are_possible(cell: Cell) -> None:
    assert set(ground_truth().learning_rates) <= set(cell.learning_rates)
    shape = (len(cell), len(cell.learning_rates), len(ground_truth().seeds))
    assert cell.accuracies.shape == shape
    assert cell.held_out.shape == shape[:2]
    assert len(cell.names) == len({policy.hash for policy in cell.policies}) == len(cell)
    for values in (cell.accuracies, cell.held_out, cell.few_shot.accuracy):
        assert ((values > 0) & (values < 1)).all()
    said = cell.few_shot
    assert {len(v) for v in (said.accuracy, said.accuracy_se, said.loss, said.learning_rate, said.seconds)} == {
        len(cell)
    }
    # Every accuracy is a number of right answers, to the five digits that are kept.
    right = cell.accuracies * cell.test_images
    assert np.abs(right - right.round()).max() < 1e-5 * cell.test_images


def test_the_truth_is_that_of_the_best_rate(cell: Cell) -> None:
    for accuracy, rate, rows in zip(cell.accuracy, cell.best_rate, cell.accuracies, strict=True):
        assert rows[cell.learning_rates.tolist().index(rate)].mean() == accuracy == rows.mean(1).max()
    np.testing.assert_allclose(cell.by_seed.mean(1), cell.accuracy)
    np.testing.assert_allclose(cell.accuracy_se**2 * cell.test_images, cell.accuracy * (1 - cell.accuracy))


def test_the_truth_ranks_itself_and_its_opposite(cell: Cell) -> None:
    assert cell.tau(cell.accuracy) == pytest.approx(1)
    assert cell.tau(-cell.accuracy) == pytest.approx(-1)
    assert cell.regret(cell.accuracy) == cell.regret(cell.accuracy, top=1) == 0
    assert cell.regret(-cell.accuracy, top=1) == pytest.approx(np.ptp(cell.accuracy))
    assert cell.tau(np.zeros(len(cell))) == 0
    assert 0.5 < cell.repeatability < 1


def test_regret_falls_as_more_are_tried(cell: Cell) -> None:
    lost = [cell.regret(cell.few_shot.accuracy, top=top) for top in range(1, len(cell) + 1)]
    assert all(more >= less for more, less in pairwise(lost))
    assert lost[-1] == 0


def test_what_is_held_constant_says_nothing_more(cell: Cell) -> None:
    assert cell.tau(cell.weight_counts) > 0.4
    assert cell.tau(cell.weight_counts, within="count") == 0
    assert cell.tau(-cell.memory_bytes, within="memory") == 0
    assert cell.tau(cell.accuracy, within="memory") == pytest.approx(1)


def test_policies_fit_the_network_and_named_ones_are_what_they_are_called() -> None:
    """The table of policies refuses layers, channels and blocks that the network has not."""
    from tinysearch.spaces import methods

    for cell in ground_truth().cells:
        assert len(cell.table) == len(cell)
        assert cell.trace.num_classes == cell.classes
        assert (cell.weight_counts >= 1).all()
        assert (cell.memory_bytes > 0).all()
    cell = ground_truth().cell("cifar10-20")
    named = methods.named(cell.trace)
    places = {name: place for place, names in enumerate(cell.names) for name in names}
    # Those of the sparse-update study choose channels by the weights, which are random here.
    fixed = [name for name in named if not name.startswith("sparse-update")]
    assert len(fixed) >= 8
    assert [name for name in fixed if cell.policies[places[name]] != named[name]] == []


@pytest.mark.parametrize("name", ["last", "full", "found-cifar10-rpi4@bias"])
def test_policies_apply_to_the_network(name: str) -> None:
    from tinysearch.search.network import load_network
    from tinysearch.spaces.engine.apply import apply

    cell = ground_truth().cell("cifar10-20")
    (policy,) = (p for p, names in zip(cell.policies, cell.names, strict=True) if name in names)
    backbone, _ = load_network(cell.backbone, classes=cell.classes, weights="none", input_size=cell.input_size)
    trained = sum(p.numel() for p in apply(backbone, policy).parameters() if p.requires_grad)
    assert trained >= cell.table.trained_params[cell.names.index(_names_of(cell, name))].sum()


def _names_of(cell: Cell, name: str) -> tuple[str, ...]:
    return next(names for names in cell.names if name in names)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda: ground_truth().cell("cifar"),
            "no cell of the ground truth is named 'cifar': there are cifar10-20, gts",
        ),
        (lambda: ground_truth().cells[0].tau([1.0]), "cifar10-20 needs 116 finite values, one for each policy"),
        (lambda: ground_truth().cells[0].tau(np.full(116, np.nan)), "needs 116 finite values"),
        (lambda: ground_truth().cells[0].tau(np.zeros(116), within="time"), '"count", "memory" or None, not \'time\''),
        (lambda: ground_truth().cells[0].regret(np.zeros(116), top=0), "top must be at least 1, not 0"),
    ],
)
def test_a_mistake_is_told_in_a_line(ask, said) -> None:
    with pytest.raises(InputError) as caught:
        ask()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_changes_what_all_share() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ground_truth().cells[0].accuracies[0] = 1


LEVELS = st.lists(st.tuples(*3 * [st.integers(0, 4)]), min_size=2, max_size=20)


@given(LEVELS)
def test_taus_lie_between_their_bounds_and_follow_signs(rows: list[tuple[int, int, int]]) -> None:
    a, b, held = np.array(rows, float).T
    for value in (ranking.tau(a, b), ranking.partial_tau(a, b, held)):
        assert -1 <= value <= 1
    assert ranking.tau(a, b) == pytest.approx(ranking.tau(b, a))
    assert ranking.partial_tau(-a, b, held) == pytest.approx(-ranking.partial_tau(a, b, held))
    assert ranking.partial_tau(a, b, held) == pytest.approx(ranking.partial_tau(b, a, -held))


@given(LEVELS)
def test_tau_depends_on_order_alone(rows: list[tuple[int, int, int]]) -> None:
    a, b, _ = np.array(rows, float).T
    assert ranking.tau(np.exp(a), 3 * b - 7) == pytest.approx(ranking.tau(a, b))


def test_a_partial_tau_by_hand() -> None:
    """Of pairs (12, 13, 23): a + + +, b + + -, held - + +."""
    a, b, held = [1, 2, 3], [1, 3, 2], [2, 1, 3]
    # taus: ab 1/3, a held 1/3, b held -1/3
    assert ranking.partial_tau(a, b, held) == pytest.approx((1 / 3 + 1 / 9) / (1 - 1 / 9))
