"""A network that nobody has seen is measured once, and refused where it keeps other bytes than predicted."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.measure import first
from tinysearch.devices.measure.first import measure_first
from tinysearch.spaces.trace import Retentions, trace

SHAPE = (3, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3)
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYSEARCH_CACHE", str(tmp_path))
    return tmp_path


def test_a_network_that_passes_is_measured_once(monkeypatch, cache):
    model = network()
    found = trace(model, SHAPE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_first(model, found)
    assert len(list(cache.rglob("*"))) == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    monkeypatch.setattr(first, "_compare", lambda *_: pytest.fail("measured again"))
    measure_first(model, found)


def test_a_byte_more_is_an_error_that_names_the_layer(cache):
    model = network()
    found = trace(model, SHAPE)
    act = next(row for row, layer in enumerate(found.layers) if layer.op == "silu")
    (kept,) = found.layers[act].kept.each
    wrong = replace(found.layers[act], kept=Retentions((replace(kept, extra=1),)))
    told = replace(found, layers=(*found.layers[:act], wrong, *found.layers[act + 1 :]))
    with pytest.raises(
        UnsupportedError, match=r"policy bias, 1 keeps 0 B of 2 images and not the predicted 2"
    ) as caught:
        measure_first(model, told)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*"))


def test_code_that_fails_in_training_alone_is_told():
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.sigmoid()
            return y.add_(1)  # what sigmoid keeps

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Fails(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    said = r"cannot be trained under the policy bias: .*inplace operation"
    with pytest.raises(UnsupportedError, match=said) as caught:
        measure_first(model, trace(model, SHAPE))
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_costs_time_alone(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYSEARCH_CACHE", str(tmp_path / "file"))
    model = network()
    measure_first(model, trace(model, SHAPE))
