"""The space: encoding, decoding, and the table agree."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.spaces import methods
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable


@pytest.fixture(scope="module", params=["squeeze_trace", "mobilenet_trace"])
def space(request):
    return UpdateSpace(request.getfixturevalue(request.param))


def rows_of(space, seed, uniform):
    if uniform:
        return np.random.default_rng(seed).integers(0, space.levels)
    return space.sample(1, seed)[0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), uniform=st.booleans())
def test_decode_encode_and_table_agree(space, seed, uniform):
    row = rows_of(space, seed, uniform)
    policy = space.decode(row)
    assert space.contains(policy)
    ours, theirs = space.table(row[None]), UpdateTable.of(space.trace, [policy])
    for field in fields(UpdateTable):
        if field.name != "trace":
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name), field.name)


def test_every_named_method_is_a_point(space):
    for name, policy in methods.named(space.trace).items():
        assert space.contains(policy), name


def test_the_zero_row_is_the_head_alone(space):
    policy = space.decode(np.zeros(len(space), int))
    assert policy.hash == methods.last(space.trace).hash


def test_genes_without_effect_are_left_out(space):
    row = np.zeros(len(space), int)
    for position, gene in enumerate(space.genes):
        row[position] = gene.kind in ("axis", "sign", "statistics")
    assert space.decode(row).hash == methods.last(space.trace).hash


def test_samples_are_deterministic_valid_and_spread(space):
    rows = space.sample(200, seed=3)
    np.testing.assert_array_equal(rows, space.sample(200, seed=3))
    assert not np.array_equal(rows, space.sample(200, seed=4))
    space.check(rows)
    live = space.table(rows).live.sum(1)
    assert np.ptp(np.quantile(live, [0.1, 0.9])) > 0.4 * len(space.trace)
    assert len({space.decode(row).hash for row in rows[:50]}) > 30


@pytest.mark.parametrize("bad", [np.zeros(3, int), np.zeros((2, 2, 2), int), np.array(["a"])])
def test_wrong_shapes_are_refused(space, bad):
    with pytest.raises(InputError, match="encoded policies are"):
        space.table(bad)


def test_wrong_levels_are_refused_by_name(space):
    row = np.zeros(len(space), int)
    row[0] = 9
    with pytest.raises(InputError, match=space.genes[0].name):
        space.decode(row)
    with pytest.raises(InputError, match=r"are .* integers"):
        space.decode(np.zeros(len(space)))


def test_a_policy_for_another_backbone_is_refused(mobilenet_trace, squeeze_trace):
    with pytest.raises(InputError, match="has not"):
        UpdateTable.of(squeeze_trace, [methods.last(mobilenet_trace)])
