"""TinyTrain's accounting, to the printed digit (Kwon et al. 2024, table of memory and compute)."""

import pytest

from tinysearch.devices.accountings import tinytrain
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace

MOBILENET, PROXYLESS, MCUNET = "mobilenetv2-w0.35-mix", "proxylessnas-w0.3-mix", "mcunet-5fps"


@pytest.fixture(scope="module")
def traces():
    return {name: trace(load_backbone(name, num_classes=10), (3, 128, 128)) for name in (MOBILENET, PROXYLESS, MCUNET)}


def count(found, policy, batch=1):
    """Memory in MiB and backward compute in millions of multiply-accumulates."""
    account = tinytrain.count(UpdateTable.of(found, [policy]), batch)
    return account.total[0] / 2**20, account.parts["backward_macs"][0] / 1e6


@pytest.mark.parametrize(("name", "compute"), [(MOBILENET, 34.9), (PROXYLESS, 38.4), (MCUNET, 44.9)])
def test_full_training_is_twice_the_forward_pass(traces, name, compute):
    found = traces[name]
    macs = count(found, methods.full(found))[1]
    assert round(macs, 1) == compute
    assert macs * 1e6 == 2 * (found.macs_forward - found.layers[found.head].macs_forward)


@pytest.mark.parametrize(
    ("name", "memory", "compute"), [(MOBILENET, 1.64, 0.80), (PROXYLESS, 1.06, 0.59), (MCUNET, 2.03, 1.47)]
)
def test_last_layer(traces, name, memory, compute):
    """MCUNet's compute is printed as 1.57, with the memory of the same layer, of which 1.47 is the weight gradient."""
    found = traces[name]
    assert tuple(round(float(value), 2) for value in count(found, methods.last_conv(found))) == (memory, compute)


def test_the_hundred_kilobyte_scheme_of_mcunet(traces):
    """SparseUpdate: 1.43 MB and 11.9 M."""
    memory, compute = count(traces[MCUNET], methods.sparse_update(traces[MCUNET], 2))
    assert (round(memory, 2), round(compute, 1)) == (1.43, 11.9)


@pytest.mark.parametrize(("name", "compute"), [(MCUNET, 26.4), (MOBILENET, 16.4)])
def test_tinytl(traces, name, compute):
    found = traces[name]
    assert round(count(found, methods.tinytl(found))[1], 1) == compute


def test_what_is_stored_counts_where_it_is_more_than_inference(traces):
    found = traces[MCUNET]
    policy = methods.full(found)
    account = tinytrain.count(UpdateTable.of(found, [policy]), 4)
    parts = account.parts
    assert parts["stored_bytes"][0] > parts["inference_peak_bytes"][0] == 4 * (8 + 32) * 64 * 64
    assert account.total[0] == 16 * parts["trained_weights"][0] + parts["stored_bytes"][0]
    assert account.macs[0] == 4 * parts["backward_macs"][0]


def test_biases_alone_are_crossed_to_but_not_counted(traces):
    """Nothing trains but biases: the gradient goes to the lowest; with weights, to the lowest weight."""
    found = traces[MCUNET]
    convs = [layer for layer in found if layer.kind == "conv"]
    biases = methods.sparse_update(found, methods.Scheme(3, {}))
    assert count(found, biases)[1] * 1e6 == sum(layer.macs_forward for layer in convs[-2:])
    both = methods.sparse_update(found, methods.Scheme(3, {41: 1.0}))
    assert count(found, both) == count(found, methods.last_conv(found))
