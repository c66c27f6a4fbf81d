"""What operations keep, as autograd tells it."""

import torch

from tinysearch.spaces.trace import Joint, Retention
from tinysearch.spaces.trace.retention import observe
from tinysearch.spaces.tracer import BATCHES


def batches(*shape):
    return [[torch.randn(count, *shape)] for count in BATCHES]


def test_product_keeps_the_other_factor_also_where_gradients_are_off():
    factors = [[torch.randn(count, 4, 3, 3), torch.randn(count, 4, 1, 1)] for count in BATCHES]
    with torch.no_grad():
        seen = observe([lambda values: values[0] * values[1]] * 2, factors)
    assert seen == ((Retention((False, True)), Retention((True, False))), ())


def test_what_several_inputs_keep_together_is_told_where_it_is_more():
    # Each factor is copied for the other's gradient: expanded, it cannot be multiplied in place.
    factors = [[torch.randn(count, 2, 3, 5), torch.randn(count, 1, 5, 3)] for count in BATCHES]
    alone, joint = observe([lambda values: values[0] @ values[1].expand(-1, 2, -1, -1)] * 2, factors)
    assert [kept.extra for kept in alone] == [4 * 2 * 5 * 3, 0]
    assert joint == ()
    apart = [lambda values: (values[0] + 1) * (values[1] + 1)] * 2
    alone, joint = observe(apart, [[torch.randn(count, 6), torch.randn(count, 6)] for count in BATCHES])
    assert [kept.extra for kept in alone] == [24, 24]
    assert joint == (Joint((0, 1), extra=48, fixed=0),)


def test_what_does_not_grow_with_the_batch_is_told_apart():
    table = torch.arange(5.0)
    (kept,), _ = observe([lambda values: values[0] * table.exp()] * 2, batches(5))
    assert kept == Retention((False,), extra=0, fixed=20)


def test_outputs_extras_and_operations_in_place():
    x = batches(4, 6, 6)
    before = x[0][0].clone()
    with torch.no_grad():
        assert observe([lambda values: values[0].sigmoid()] * 2, x)[0] == (Retention((False,), output=True),)
        assert observe([lambda values: values[0].add_(1)] * 2, x)[0] == (Retention((False,)),)
        (pooled,), _ = observe([lambda values: torch.nn.functional.max_pool2d(values[0], 2)] * 2, x)
    assert pooled == Retention((True,), extra=4 * 3 * 3 * 8)  # the positions, 8 bytes each
    assert torch.equal(x[0][0], before)
