"""Checkpoints as training scripts write them: wrapped, with prefixes, with averaged weights."""

import argparse
import warnings

import pytest
import torch
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.checkpoint import load_into, read_checkpoint
from tinysearch.spaces.backbones.unwrapping import without_prefixes

NAME = "mobilenetv3-small-w0.1"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    entries = load_backbone(NAME).state_dict()
    return {name: value + 1 if value.is_floating_point() else value for name, value in entries.items()}


def same(loaded: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model_state", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.model."])
def test_what_a_training_script_writes_is_unwrapped(tmp_path, state, key, prefix):
    content = {
        "epoch": 3,
        "arch": "net",
        "args": {"lr": 0.1, "sizes": [1, 2]},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        key: {f"{prefix}{name}": value for name, value in state.items()},
    }
    torch.save(content, tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load_backbone(NAME, weights=tmp_path / "w.pth"), state)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema"])
def test_averaged_weights_are_preferred_and_said(tmp_path, state, averaged):
    trained = {name: value * 0 for name, value in state.items()}
    torch.save({"model": trained, averaged: state}, tmp_path / "w.pth")
    with pytest.warns(
        UserWarning, match=f"of its entries {averaged} and model the averaged ones, {averaged}, are taken"
    ):
        assert same(load_backbone(NAME, weights=tmp_path / "w.pth"), state)


def test_an_entry_of_averages_that_is_empty_is_passed_over(tmp_path, state):
    torch.save({"state_dict": state, "state_dict_ema": None, "model_ema": {}}, tmp_path / "w.pth")
    assert same(load_backbone(NAME, weights=tmp_path / "w.pth"), state)


def test_a_wrapper_in_a_wrapper(tmp_path, state):
    torch.save({"ema": {"state_dict": state, "decay": 0.99}, "step": 1}, tmp_path / "w.pth")
    assert same(load_backbone(NAME, weights=tmp_path / "w.pth"), state)


def test_pytorchs_own_averaged_model(tmp_path):
    model = load_backbone(NAME)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    torch.save(averaged.state_dict(), tmp_path / "w.pth")
    assert same(load_backbone(NAME, weights=tmp_path / "w.pth"), model.state_dict())


def test_a_prefix_that_the_network_has_itself_stays():
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    outer = nn.ModuleDict({"model": inner})
    given = {name: torch.ones_like(value) for name, value in outer.state_dict().items()}
    load_into(outer, given, "w")
    assert same(outer, given)
    load_into(outer, {f"module.{name}": value for name, value in given.items()}, "w")


def test_a_prefix_of_some_names_only_is_none(tmp_path, state):
    mixed = {f"module.{name}" if "features" in name else name: value for name, value in state.items()}
    assert without_prefixes(mixed, state) == mixed
    torch.save({"state_dict": mixed}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"missing \(features"):
        load_backbone(NAME, weights=tmp_path / "w.pth")


def test_settings_of_a_type_that_would_have_to_run_are_named(tmp_path, state):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"it holds argparse\.Namespace, which is no tensor; save model") as error:
        read_checkpoint(tmp_path / "w.pth")
    assert "\n" not in str(error.value)
