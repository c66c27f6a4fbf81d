"""A member of a run is trained, what changed is kept, and merged into a network of plain weights."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import tinysearch as ts
from tinysearch.cli import cli
from tinysearch.results.records import Member
from tinysearch.results.rundir import RunDirectory
from tinysearch.spaces.delta import read_delta
from tinysearch.spaces.policy import UpdatePolicy

TINY = ("--backbone", "tiny_net:build", "--weights", "none")


@pytest.fixture(scope="module")
def member(run_dir) -> Member:
    """A member that trains layers of the body and has no lite residual module: it merges into other plain weights."""
    run = RunDirectory.load(run_dir)
    policies = ((m, UpdatePolicy.load(run.policy_path(m))) for m in run.front.members)
    return next(m for m, policy in policies if (policy.layers or policy.norms) and not policy.lite_residuals)


@pytest.fixture(scope="module")
def kept(run_dir, member, commands, tmp_path_factory) -> tuple[Path, Path, str, str]:
    """A delta and the merged weights, made by the command line, and what was printed."""
    folder = tmp_path_factory.mktemp("delta")
    delta, merged = folder / "d.safetensors", folder / "m.safetensors"
    arguments = ["finetune", str(run_dir), "--policy", member.hash, "--steps", "2", "--test-images", "50"]
    trained, plain = commands([[*arguments, "--delta", str(delta)], ["merge", str(delta), *TINY, "--out", str(merged)]])
    assert (trained.returncode, plain.returncode) == (0, 0), trained.stderr + plain.stderr
    return delta, merged, trained.stdout, plain.stdout


def test_finetune_keeps_what_changed(kept, member, run_dir):
    delta, _, said, _ = kept
    run = RunDirectory.load(run_dir)
    change = read_delta(delta)
    assert change.policy == UpdatePolicy.load(run.policy_path(member))
    assert change.classes == 10
    assert f"{delta}: what training changed" in said


def test_merged_weights_are_the_networks_with_the_deltas(kept):
    delta, merged, _, said = kept
    change, state = read_delta(delta), load_file(merged)
    assert f"{merged}: tiny_net:build, 10 classes" in said
    whole = {name: tensor for name, tensor in change.tensors.items() if name in state}
    assert {f"{change.policy.head}.weight", f"{change.policy.head}.bias"} <= set(whole)
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())


def test_merged_weights_are_weights_of_the_same_network(kept, run_dir, commands):
    """Read back by --weights, head included; and no longer what the run was searched with, nor the delta's base."""
    delta, merged, _, _ = kept
    weights = ["--weights", str(merged)]
    listed, other, again = commands(
        [
            ["inspect", "--backbone", "tiny_net:build", *weights, "-f", "json"],
            ["verify", str(run_dir), *weights],
            ["merge", str(delta), "--backbone", "tiny_net:build", *weights, "--out", str(merged)],
        ]
    )
    assert listed.returncode == 0, listed.stderr
    assert "stem.0" in {row["layer"] for row in json.loads(listed.stdout)}
    assert other.returncode == again.returncode == 6
    assert "not the weights" in other.stderr
    assert read_delta(delta).base_sha256[:12] in again.stderr


def test_what_cannot_be_merged_or_kept_is_one_line(kept, run_dir, commands, tmp_path):
    delta, merged, _, _ = kept
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(delta.read_bytes()[:-1])
    out = ["--out", str(tmp_path / "out.safetensors")]
    said = {
        "a safetensors file is written": ["merge", str(delta), *TINY, "--out", str(tmp_path / "out.pth")],
        "there is no folder": ["merge", str(delta), *TINY, "--out", str(tmp_path / "no" / "out.safetensors")],
        "say that its code may run, by --backbone tiny_net:build": ["merge", str(delta), "--weights", "none", *out],
        "damaged": ["merge", str(cut), *TINY, *out],
        "no delta": ["merge", str(merged), *TINY, *out],
        "gone.safetensors: no such file": ["merge", "gone.safetensors", *TINY, *out],
        "no weights are published": ["merge", str(delta), "--backbone", "tiny_net:build", *out],
        "no folder": ["finetune", str(run_dir), "--delta", str(tmp_path / "no" / "d.safetensors")],
    }
    for words, done in zip(said, commands(list(said.values())), strict=True):
        (line,) = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (3, ""), words
        assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["cut.safetensors"]


def test_published_weights_are_found_and_lite_residual_modules_are_told_of(tmp_path):
    backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=7, weights="bundled")
    policy = ts.methods.tinytl(ts.trace(backbone, (3, 32, 32)))
    delta, out = tmp_path / "d.safetensors", tmp_path / "m.safetensors"
    delta.write_bytes(policy.delta(ts.apply(backbone, policy)))
    done = CliRunner().invoke(cli, ["merge", str(delta), "--out", str(out)], catch_exceptions=False)
    said = done.output
    assert f"{len(policy.lite_residuals)} lite residual modules, which --weights does not take" in said
    state = ts.merge(backbone, delta).state_dict()
    assert load_file(out).keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(out).items())
