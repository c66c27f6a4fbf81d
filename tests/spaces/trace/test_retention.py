"""What operations keep, as autograd tells it."""

import torch

from tinysearch.spaces.trace import Retention
from tinysearch.spaces.trace.retention import observe


def test_product_keeps_the_other_factor_also_where_gradients_are_off():
    factors = [torch.randn(1, 4, 3, 3), torch.randn(1, 4, 1, 1)]
    with torch.no_grad():
        seen = observe(lambda values: values[0] * values[1], factors)
    assert seen == (Retention((False, True)), Retention((True, False)))


def test_outputs_extras_and_operations_in_place():
    x = torch.randn(1, 4, 6, 6)
    before = x.clone()
    with torch.no_grad():
        assert observe(lambda values: values[0].sigmoid(), [x]) == (Retention((False,), output=True),)
        assert observe(lambda values: values[0].add_(1), [x]) == (Retention((False,)),)
        (pooled,) = observe(lambda values: torch.nn.functional.max_pool2d(values[0], 2), [x])
    assert pooled == Retention((True,), extra=4 * 3 * 3 * 8)  # the positions, 8 bytes each
    assert torch.equal(x, before)
