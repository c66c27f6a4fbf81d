"""A search on networks of tokens, from the request to the network that a delta is merged into."""

from pathlib import Path

import pytest
import torch

import tinysearch as ts
from tinysearch.spaces.engine.origin import require_origin


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["attention", "folding"])
def test_a_search_with_all_that_follows(backbone: str, tmp_path: Path) -> None:
    name = f"token_nets:{backbone}"
    settings = {"name": "few-shot", "shot": 5, "queries": 60, "steps": 3, "episodes": 1}
    out = tmp_path / "run"
    ts.run(backbone=name, weights="none", trials=3, jobs=1, proxy=settings, out=out)
    run = ts.load_run(out)
    verification = ts.verify(out)
    assert verification.wrong == ()
    policies = [ts.UpdatePolicy.load(run.policy_path(member)) for member in run.front.members]
    assert any(policy.parameters for policy in policies)
    member = next(member for member, policy in zip(run.front.members, policies, strict=True) if policy.parameters)
    tuned = ts.finetune(out, member.hash, steps=3, train_images=50, test_images=20, delta=tmp_path / "d.safetensors")
    plain = ts.merge(require_origin(tuned.model).backbone, tmp_path / "d.safetensors")
    batch = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain(batch), tuned.model.eval()(batch), rtol=1e-3, atol=1e-4)
