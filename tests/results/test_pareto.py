import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinysearch.results.pareto import OBJECTIVES, Objective, as_minimised, hypervolume, nondominated

SHAPES = st.tuples(st.integers(0, 25), st.integers(1, 4))
#: Few distinct values, so that ties and duplicates abound.
COARSE = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan])


def brute_force(values):
    """The definition, pair by pair."""

    def kept(i):
        row = values[i]
        if np.isnan(row).any():
            return False
        for j, other in enumerate(values):
            if np.isnan(other).any() or j == i:
                continue
            if (other <= row).all() and ((other < row).any() or j < i):
                return False
        return True

    return [kept(i) for i in range(len(values))]


@given(arrays(np.float64, SHAPES, elements=COARSE))
def test_nondominated_is_its_definition(values):
    assert nondominated(values).tolist() == brute_force(values)


@given(arrays(np.float64, SHAPES, elements=st.floats(-1e300, 1e300)))
def test_nondominated_with_any_floats(values):
    assert nondominated(values).tolist() == brute_force(values)


def test_first_of_equal_rows_is_kept():
    assert nondominated([[1, 2], [1, 2], [0, 3], [1, 2]]).tolist() == [True, False, True, False]


def test_rows_with_nan_are_never_on_the_front_and_dominate_nothing():
    assert nondominated([[np.nan, 0.0], [1.0, 1.0]]).tolist() == [False, True]
    assert nondominated([[np.nan, np.nan]]).tolist() == [False]


@pytest.mark.parametrize("values", [[1.0, 2.0], [[[1.0]]], np.empty((3, 0))])
def test_other_shapes_are_refused(values):
    with pytest.raises(ValueError, match="array"):
        nondominated(values)


def cells_dominated(points, size):
    """Share of the unit cells of a grid that some point dominates: exact for points on the grid."""
    cells = np.stack(np.meshgrid(*[np.arange(size)] * points.shape[1], indexing="ij"), -1).reshape(-1, points.shape[1])
    dominated = (points[None] <= cells[:, None]).all(-1).any(-1) if len(points) else np.zeros(len(cells), bool)
    return dominated.mean()


@given(arrays(np.int64, st.tuples(st.integers(0, 8), st.integers(1, 4)), elements=st.integers(-1, 6)))
def test_hypervolume_counts_the_cells(points):
    size, dimensions = 5, points.shape[1]
    share = hypervolume(points, [size] * dimensions, [0] * dimensions)
    assert share == pytest.approx(cells_dominated(points, size), abs=1e-12)


def test_hypervolume_is_free_of_units():
    values = np.array([[1e5, 0.2], [4e5, 0.1]])
    expected = hypervolume(values, [1e6, 0.4], [0, 0])
    assert hypervolume(values * [8, 1000], [8e6, 400], [0, 0]) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(0.9 * 0.5 + 0.6 * 0.25)


def test_hypervolume_of_extremes():
    assert hypervolume(np.empty((0, 3)), [1, 1, 1], [0, 0, 0]) == 0
    assert hypervolume([[0, 0, 0]], [1, 1, 1], [0, 0, 0]) == 1
    assert hypervolume([[1, 0, 0], [5, -9, -9]], [1, 1, 1], [0, 0, 0]) == 0
    assert hypervolume([[np.nan, 0.0], [0.5, 0.5]], [1, 1], [0, 0]) == 0.25


@pytest.mark.parametrize(("reference", "ideal"), [([1, 1], [0, 1]), ([1, 1], [0]), ([np.nan, 1], [0, 0])])
def test_hypervolume_needs_an_ideal_below_its_reference(reference, ideal):
    with pytest.raises(ValueError, match="must lie below"):
        hypervolume([[0.0, 0.0]], reference, ideal)


def test_as_minimised_turns_what_is_maximised():
    assert as_minimised([[0.9, 5, 2]], OBJECTIVES).tolist() == [[-0.9, 5, 2]]
    assert as_minimised([3.0], [Objective("macs")]).tolist() == [3.0]
