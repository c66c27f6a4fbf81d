"""What is told of a network of the user's own, without any library of networks."""

import importlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "networks"


class Unit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.scale * self.out(F.dropout(F.scaled_dot_product_attention(q, k, v), 0.1, self.training))


class Net(nn.Module):
    """A convolution and two units of attention, for images of its own size alone."""

    input_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Dropout(0.2))
        self.units, self.head = nn.Sequential(Unit(), Unit()), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] in (8, 64)
        return self.head(self.units(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class Branches(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def test_networks_are_measured_once_and_told_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    examine, made = importlib.import_module("examine"), []
    networks = {"own": Net, "branching": Branches, "broken": lambda: nn.Sequential(nn.Linear(2, 2)) / 0}

    def build(name: str, size: int | None) -> nn.Module:
        made.append((name, size))
        return networks[name]()

    monkeypatch.setattr(examine, "build", build)
    monkeypatch.setattr(examine, "NAMES", tuple(networks))
    out = tmp_path / "networks.jsonl"
    examine.main(["--out", str(out), "own"])
    examine.main(["--out", str(out)])
    assert made == [("own", 64), ("branching", 64), ("branching", None), ("broken", 64)]
    own, branching, broken = (json.loads(line) for line in out.read_text().splitlines())
    assert (own["covered"], own["by_themselves"], own["blocks"], own["input_size"]) == (1, 2, 2, 8)
    assert len(own["bytes"]) == 12
    assert all(case["as_predicted"] and case["predicted"] == case["measured"] for case in own["bytes"])
    assert own["gradients"] < 1e-10
    assert own["step"]["ratio"] > 0
    assert "branches on values of tensors" in branching["refused"]
    assert broken["failed"].startswith("TypeError")
    capsys.readouterr()
    examine.main(["--out", str(out), "--markdown"])
    printed = capsys.readouterr().out
    assert printed.startswith("1 of 3 networks are taken, 1 of them")
    assert "| `own` | 0.00 M | 8 px |" in printed
    assert "| `branching` | 0.00 M | refused: Branches branches on values" in printed
