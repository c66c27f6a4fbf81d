"""The sparse-update study's accounting, to the printed digit (Lin et al. 2022)."""

import pytest

from tinysearch.devices.accountings import sparse_update
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


def load(name):
    return trace(load_backbone(name, num_classes=10), (3, 128, 128))


@pytest.fixture(scope="module")
def mcunet():
    return load("mcunet-5fps")


def kilobytes(found, policy, batch=1):
    """Weights and biases, activations and masks, and all of it, in kB of 1024 B."""
    account = sparse_update.count(UpdateTable.of(found, [policy]), batch)
    parts = account.parts
    values = (parts["weights_and_biases_bytes"], parts["activations_and_masks_bytes"], account.total)
    return tuple(int(value[0]) / 1024 for value in values)


@pytest.mark.parametrize(
    ("scheme", "published"),
    [
        (0, (29.8, 20.0, 49.8)),
        (1, (47.3, 27.5, 74.8)),
        (2, (70.0, 29.9, 99.8)),
        (3, (93.5, 31.4, 125.0)),
        (4, (115.6, 32.8, 148.4)),
    ],
)
def test_schemes_of_mcunet(mcunet, scheme, published):
    found = kilobytes(mcunet, methods.sparse_update(mcunet, scheme))
    assert tuple(round(value, 1) for value in found) == published


def test_the_last_twelve_layers_all_biases_and_everything(mcunet):
    last_twelve = methods.Scheme(12, dict.fromkeys(range(30, 42), 1.0))
    assert round(kilobytes(mcunet, methods.sparse_update(mcunet, last_twelve))[2], 1) == 448.0
    assert round(kilobytes(mcunet, methods.bias(mcunet))[2], 1) == 121.3
    assert round(kilobytes(mcunet, methods.full(mcunet))[2], 1) == 1400.4


@pytest.mark.parametrize(
    ("name", "totals"),
    [
        ("mobilenetv2-w0.35-mcu", (49.8, 73.9, 99.4, 123.6, 138.2)),
        ("proxylessnas-w0.3", (49.7, 74.9, 98.5, 120.2, 148.2)),
    ],
)
def test_schemes_of_the_other_networks_keep_within_their_budgets(name, totals):
    """Their kB are not printed; the study's budgets are 50, 75, 100, 125 and 150 kB."""
    found = load(name)
    kB = [kilobytes(found, methods.sparse_update(found, n))[2] for n in range(5)]  # noqa: N806
    assert all(value <= budget for value, budget in zip(kB, (50, 75, 100, 125, 150), strict=True))
    assert tuple(round(value, 1) for value in kB) == totals


def test_a_batch_multiplies_activations_alone(mcunet):
    policy = methods.sparse_update(mcunet, 1)
    one, four = kilobytes(mcunet, policy), kilobytes(mcunet, policy, 4)
    assert (four[0], four[1]) == (one[0], 4 * one[1])


def test_the_shift_of_a_norm_is_the_bias_of_its_convolution():
    """A network with norms, and the same with them folded into biases: the same bytes."""
    with_norms = trace(load_backbone("mobilenetv2-w0.35"), (3, 128, 128))
    convs = [layer for layer in with_norms if layer.kind == "conv"]
    masks = sum(-(-layer.out_elements // 8) for layer in convs)
    biases, activations, _ = kilobytes(with_norms, methods.bias(with_norms))
    assert biases * 1024 == 4 * sum(layer.out_channels for layer in convs)
    assert activations * 1024 == masks + 1280
