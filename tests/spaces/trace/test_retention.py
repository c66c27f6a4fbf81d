"""What operations keep, as autograd tells it."""

import torch

from tinysearch.spaces.capture.samples import BATCHES
from tinysearch.spaces.trace import Joint, Retention, Retentions
from tinysearch.spaces.trace.retention import observe


def batches(*shape):
    return [[torch.randn(count, *shape)] for count in BATCHES]


def test_product_keeps_the_other_factor_also_where_gradients_are_off():
    factors = [[torch.randn(count, 4, 3, 3), torch.randn(count, 4, 1, 1)] for count in BATCHES]
    with torch.no_grad():
        seen = observe([lambda values: values[0] * values[1]] * 2, factors)
    assert seen == Retentions((Retention((False, True)), Retention((True, False))))


def test_what_several_inputs_keep_together_is_told_where_it_is_more():
    # Each factor is copied for the other's gradient: expanded, it cannot be multiplied in place.
    factors = [[torch.randn(count, 2, 3, 5), torch.randn(count, 1, 5, 3)] for count in BATCHES]
    found = observe([lambda values: values[0] @ values[1].expand(-1, 2, -1, -1)] * 2, factors)
    assert [kept.extra for kept in found.each] == [4 * 2 * 5 * 3, 0]
    assert found.joint == ()
    apart = [lambda values: (values[0] + 1) * (values[1] + 1)] * 2
    found = observe(apart, [[torch.randn(count, 6), torch.randn(count, 6)] for count in BATCHES])
    assert [kept.extra for kept in found.each] == [24, 24]
    assert found.joint == (Joint((0, 1), extra=48, fixed=0),)


def test_what_does_not_grow_with_the_batch_is_told_apart():
    table = torch.arange(5.0)
    (kept,) = observe([lambda values: values[0] * table.exp()] * 2, batches(5)).each
    assert kept == Retention((False,), extra=0, fixed=20)


def test_one_sample_is_told_where_it_differs():
    """Of one pair of matrices the factors are kept as they are, of several as copies."""

    def product(values):
        return values[0].unflatten(2, (2, 3)).transpose(1, 2) @ values[1]

    counts = (*BATCHES, 1)
    inputs = [[torch.randn(count, 4, 6), torch.randn(count, 2, 3, 5)] for count in counts]
    found = observe([product] * 3, inputs)
    assert found.of(2) == found
    assert found.of(1) == found.alone
    assert [kept.extra for kept in found.each] != [kept.extra for kept in found.of(1).each]
    same = observe([lambda values: values[0].relu()] * 3, [values[:1] for values in inputs])
    assert same.alone is None
    assert same.of(1) == same


def test_outputs_extras_and_operations_in_place():
    x = batches(4, 6, 6)
    before = x[0][0].clone()
    with torch.no_grad():
        assert observe([lambda values: values[0].sigmoid()] * 2, x).each == (Retention((False,), output=True),)
        assert observe([lambda values: values[0].add_(1)] * 2, x).each == (Retention((False,)),)
        (pooled,) = observe([lambda values: torch.nn.functional.max_pool2d(values[0], 2)] * 2, x).each
    assert pooled == Retention((True,), extra=4 * 3 * 3 * 8)  # the positions, 8 bytes each
    assert torch.equal(x[0][0], before)
