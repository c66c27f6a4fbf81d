"""A search about a network of a library, from the command to merged weights."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import tinysearch as ts
from tinysearch.cli import cli
from tinysearch.core.errors import InputError
from tinysearch.search.network import load_network

pytestmark = pytest.mark.usefixtures("libraries")

NAME = "timm:test_resnet"


def command(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    return done.output


@pytest.mark.slow
def test_from_the_command_to_merged_weights(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    torch.save({"epoch": 1, "state_dict": ts.load_backbone(NAME, num_classes=3).state_dict()}, weights)
    (tmp_path / "options.yaml").write_text(
        f"backbone: {NAME}\nweights: {weights}\ndataset: digits\ninput-size: 32\ntrials: 2\nsteps: 2\njobs: 2\n"
        "sampler: random\nepisodes: 1\n"
    )
    command("run", "-c", str(tmp_path / "options.yaml"), "--out", str(tmp_path / "run"))
    run = ts.load_run(tmp_path / "run")
    assert run.request["backbone"] == NAME
    assert run.front.members
    assert NAME in command("show", str(tmp_path / "run"))
    delta = tmp_path / "delta.safetensors"
    ts.finetune(run.path, steps=1, test_images=10, delta=delta)
    merged = ts.merge_file(delta, tmp_path / "merged.safetensors", weights=str(weights))
    assert merged.classes == 10
    plain = ts.load_backbone(NAME, weights=merged.path)
    assert plain.get_classifier().out_features == 10
    # A policy's name alone builds the network: it is data, no code of whoever wrote the policy.
    policy = next((tmp_path / "run" / "policies").glob("*.json"))
    assert NAME in policy.read_text()
    assert "conv1" in command("inspect", "--policy", str(policy))


@pytest.mark.slow
def test_several_networks_of_libraries(tmp_path: Path) -> None:
    names = [NAME, "timm:test_byobnet"]
    settings = {"name": "few-shot", "steps": 2, "episodes": 1}
    run = ts.run(backbone=names, weights="none", input_size=16, trials=2, jobs=1, proxy=settings, out=tmp_path / "run")
    assert {network.request["backbone"] for network in run.networks} == set(names)


def test_a_network_is_built_for_the_size_that_it_is_traced_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinysearch.search import network

    asked: list[int] = []

    class Traced:
        num_classes = 4

    def trace(model: torch.nn.Module, shape: tuple[int, ...]) -> Traced:
        asked.append(shape[1])
        assert model.eval()(torch.zeros(1, *shape)).shape == (1, 4)
        return Traced()

    monkeypatch.setattr(network, "trace", trace)
    monkeypatch.setattr(network, "measure_first", lambda *_: None)  # there are no rows
    for size in (None, 64):
        load_network("timm:test_vit3", classes=4, weights="none", input_size=size)
    load_network("timm:efficientformer_l1", classes=4, weights="none")
    assert asked == [96, 64, 224]


def test_a_function_that_makes_another_number_of_logits_is_found_out(tmp_path: Path, monkeypatch) -> None:
    """Even where some other layer has as many outputs as classes were asked for."""
    (tmp_path / "nets_of_five.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), *pool, nn.Linear(10, 5))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_network("nets_of_five:build", classes=5, weights="none")[1].num_classes == 5
    with pytest.raises(InputError, match="gives 5 logits for 10 classes: let its function take num_classes"):
        load_network("nets_of_five:build", classes=10, weights="none")
