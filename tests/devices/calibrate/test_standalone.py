"""The file that runs alone on a board."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.breakdown import estimate
from tinysearch.devices.calibrate import standalone
from tinysearch.devices.calibrate.assemble import make_profile
from tinysearch.devices.calibrate.jobs import CLASSES, Effort, make_jobs
from tinysearch.devices.calibrate.plain import plain_rows
from tinysearch.devices.calibrate.results import read_results
from tinysearch.devices.profile import parse_profile
from tinysearch.devices.profile.writer import write_profile
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.trace import trace

SOURCE = Path(standalone.__file__)
ROOT = Path(__file__).resolve().parent.parent.parent.parent


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A copy of the file in a folder of its own: no tinysearch, and nothing of the caller's environment, in reach."""
    shutil.copy(SOURCE, folder / "standalone.py")
    guard = (
        "import runpy, sys; sys.modules['tinysearch'] = None; del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", guard, "standalone.py", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )


def test_it_is_python_3_6_and_imports_nothing_but_torch():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.AnnAssign)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert (node.module or "").split(".")[0] in {*sys.stdlib_module_names, "torch"}
            assert node.module != "__future__"
        elif isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= {*sys.stdlib_module_names, "torch"}
    # Built-in types are no generics there.
    annotations = [node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    assert not {node.id for node in annotations if isinstance(node, ast.Name)} & {"dict", "list", "tuple", "type"}


def test_a_board_measures_and_its_results_make_a_profile(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "user")
    effort = Effort(networks=3, policies=6, visits=2, repeats=1, memory=6, seconds=60.0)
    jobs = make_jobs("tiny_net:build", 16, batch=2, plain=True, threads=1, effort=effort)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = run_alone(tmp_path, "jobs.json", "results.json", "--force")
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "results.json")
    assert len(results.steps) == len(jobs["steps"]) > 12
    assert all(one.error is None and one.growth for one in results.memory)
    calibration = make_profile(results, "board", "results.json")
    profile = parse_profile(write_profile(calibration.profile), "board.yaml")
    assert profile == calibration.profile
    assert "PyTorch's own layers" in profile.runtime
    error = profile.latency.error
    assert error is not None
    assert error.points == len(results.steps)
    assert profile.memory.working_set is not None
    found = trace(load_backbone("tiny_net:build", num_classes=CLASSES), (3, 16, 16))
    policy = results.jobs.steps[0].policy
    assert estimate(found, UpdatePolicy.from_json(policy), profile).latency_s > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "jobs.json: "),
        ('{"format": "tinysearch.run"}', "no jobs file of this version"),
        ("[]", "no jobs file of this version"),
        (None, "jobs.json"),
        ('{"format": "tinysearch.calibration-jobs", "version": 1, "layers": "tinysearch"}', "that has tinysearch"),
    ],
)
def test_a_file_that_is_no_jobs_is_one_line(tmp_path, content, message, capsys):
    path = tmp_path / "jobs.json"
    if content is not None:
        path.write_text(content)
    assert standalone.main([str(path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_networks_from_rows_compute_what_the_backbone_does():
    for name, size in (("mobilenetv2-w0.35", 64), ("mobilenetv3-small", 64), ("proxylessnas-w0.3", 48)):
        model = load_backbone(name, num_classes=CLASSES).eval()
        rows = plain_rows(model, trace(model, (3, size, size)))
        rebuilt = standalone._network({"rows": rows})
        names = {row["name"] for row in rows} & set(dict(model.named_modules()))
        for row in names & set(rebuilt.position):
            rebuilt.layers[rebuilt.position[row]].load_state_dict(model.get_submodule(row).state_dict())
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            torch.testing.assert_close(rebuilt(images), model(images), rtol=1e-4, atol=1e-4)


def test_operations_that_a_board_does_not_know_are_refused():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cumsum(self.conv(x), 1).mean((2, 3)))

    model = Odd()
    with pytest.raises(UnsupportedError, match="cumsum"):
        plain_rows(model, trace(model, (3, 8, 8)))
    padded = load_backbone("mobilenetv2-w0.1-tf", num_classes=CLASSES)  # computes its padding from the shape
    with pytest.raises(UnsupportedError, match="MobileNet-like"):
        plain_rows(padded, trace(padded, (3, 32, 32)))


def test_a_process_tells_what_it_grows_by_and_why_it_cannot():
    held = []

    def make():
        def step():
            held.append(bytearray(os.urandom(2**20)) * 32)

        return step

    grown = standalone.resident_growth(make, steps=2)
    assert 64 * 2**20 <= grown["growth"] < 90 * 2**20
    assert held == []  # it was another process

    def broken():
        raise ValueError("no such layer")

    assert standalone.resident_growth(broken) == {"error": "ValueError: no such layer"}
    assert "died" in standalone.resident_growth(lambda: os._exit(9))["error"]


def test_stamps_add_up_to_the_passes(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(standalone.time, "perf_counter", lambda: float(next(clock)))
    stamps = standalone.Stamps(lambda: None)
    x = torch.ones(2, requires_grad=True)
    stamps.begin()
    y = stamps.row(x * 2, "double")
    z = stamps.row(y + 1, "shift")
    z.sum().backward()
    forward, backward = stamps.end()
    assert forward == {"double": 1.0, "shift": 1.0}
    assert backward == {"shift": 1.0, "double": 1.0}


def test_the_machine_is_described():
    found = standalone.machine()
    assert found["cores"] >= 1
    assert found["processor"]
    assert found["memory"] > found["available"] > 0
    assert standalone.jitter(50) >= 1.0


def test_a_step_at_rest_holds_no_gradients_and_trains_on():
    torch.manual_seed(0)
    step = standalone.Step(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), [2, 3, 2, 2], 3, "adam", "cpu")
    step()
    weight = step.model[1].weight
    assert weight.grad is not None
    assert step.optimizer.state
    before = weight.detach().clone()
    step.rest()
    assert weight.grad is None
    assert not step.optimizer.state
    step()
    assert not torch.equal(weight, before)


def test_short_time_measures_fewer_steps(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "user")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # of the other tests too
    effort = Effort(networks=3, policies=3, visits=3, repeats=1, memory=0, seconds=1e-3)
    jobs = make_jobs("tiny_net:build", 16, batch=2, plain=True, threads=1, effort=effort)
    shares = []
    results = standalone.run_jobs(jobs, standalone._plain(jobs), shares.append)
    assert [(step["step"], len(step["seconds"])) for step in results["steps"]] == [(0, 1)]
    assert shares[-1] == 1.0
