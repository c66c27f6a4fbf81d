"""The meter on a run: what its policies really keep, in every form, and an exit code where that is not as predicted."""

import csv
import io
import json
import shutil

import pytest

from tinysearch.results.rundir import RunDirectory


@pytest.fixture(scope="module")
def members(run_dir):
    return RunDirectory.load(run_dir).front.members


def test_every_member_keeps_what_was_predicted(run_dir, members, commands):
    forms = ([], ["-f", "json"], ["-f", "csv"], ["--batch", "3", "-f", "json"])
    table, as_json, as_csv, small = commands([["verify", str(run_dir), *form] for form in forms])
    assert [(done.returncode, done.stderr) for done in (table, as_json, as_csv, small)] == [(0, "")] * 4
    rows = json.loads(as_json.stdout)
    assert [(row["policy"], row["method"]) for row in rows] == [(member.hash, member.method) for member in members]
    for row, member in zip(rows, members, strict=True):
        # The run's batch on a device that computes in fp32, so the front said the same.
        assert row["measured_bytes"] == row["predicted_bytes"] == member.saved_bytes
        assert row["difference_bytes"] == 0
        assert row["step_s"] > 0
    assert [int(row["measured_bytes"]) for row in csv.DictReader(io.StringIO(as_csv.stdout))] == [
        member.saved_bytes for member in members
    ]
    assert all(member.hash[:8] in table.stdout and f"{member.saved_bytes:,} B" in table.stdout for member in members)
    assert "fp32" in table.stdout
    for row, member in zip(json.loads(small.stdout), members, strict=True):
        assert row["difference_bytes"] == 0
        assert row["measured_bytes"] < member.saved_bytes


def test_one_policy_tensor_by_tensor(run_dir, members, commands):
    listed, table, several, unknown, none = commands(
        [
            ["verify", str(run_dir), "--policy", members[-1].hash, "--tensors", "-f", "json"],
            ["verify", str(run_dir), "--policy", "best", "--tensors"],
            ["verify", str(run_dir), "--tensors"],
            ["verify", str(run_dir), "--policy", "zzz"],
            ["verify", str(run_dir), "--batch", "0"],
        ]
    )
    assert (listed.returncode, table.returncode) == (0, 0), listed.stderr + table.stderr
    rows = json.loads(listed.stdout)
    assert sum(row["measured_bytes"] for row in rows) == members[-1].saved_bytes
    assert all(row["measured_bytes"] == row["predicted_bytes"] for row in rows)
    assert any(row["tensors"].endswith("float32 for head") for row in rows)
    assert "in all: predicted" in table.stdout
    for done, words in (
        (several, f"choose one of the {len(members)}"),
        (unknown, "0 members"),
        (none, "--batch 0: it must be from 1"),
    ):
        assert (done.returncode, done.stdout) == (3, "")
        assert words in done.stderr


def test_a_difference_is_shown_and_is_an_exit_code(run_dir, members, commands, tmp_path):
    """A trace sees a network run on three images at most; this one keeps more of many."""
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    request = (copy / "request.json").read_text()
    assert "tiny_net:build" in request
    (copy / "request.json").write_text(request.replace("tiny_net:build", "tiny_net:by_batch"))
    (done,) = commands([["verify", str(copy), "-f", "json"]])
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    different = [row for row in rows if row["difference_bytes"]]
    assert different
    assert all(row["difference_bytes"] == row["measured_bytes"] - row["predicted_bytes"] for row in rows)
    (line,) = done.stderr.splitlines()
    assert "policies keep other bytes here than predicted" in line
    assert all((row["method"] or row["policy"][:8]) in line for row in different)
