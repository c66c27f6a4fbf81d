"""What measures the ground truth trains as `finetune` does, and what stores it loses nothing."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tinysearch.search.training import Features, Recipe, fit
from tinysearch.spaces.optimizers import ADAM, SGD, SGD_MOMENTUM, Optimizer

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "ground_truth"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("measure", "store", "trainings", "cuda_graph", "workers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import store

    return store


@pytest.mark.parametrize("optimizer", [ADAM, SGD, SGD_MOMENTUM], ids=lambda optimizer: optimizer.name)
def test_a_trainer_trains_as_fit_does_again_and_again(benchmarks: ModuleType, optimizer: Optimizer) -> None:
    from trainings import Schedule, Trainer, answers

    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    everything = Features(torch.randn(30, 6), torch.randint(3, (30,)))
    part = Features(everything.values[10:], everything.labels[10:])
    model = deepcopy(first)
    trainer = Trainer(model, optimizer, everything, batch=8, most=12)
    for seed, steps in ((0, 12), (1, 7), (0, 12)):
        expected = deepcopy(first)
        fit(expected, part, optimizer, Recipe(steps, 8, learning_rate=0.05, seed=seed))
        plan = Schedule(len(part), steps, 8, seed, first=10, device="cpu")
        trainer.train(plan.order, plan.shares * 0.05, lambda: None)
        torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
        right, losses = answers(model, everything)
        assert right.shape == losses.shape == (30,)


def test_works_go_on_side_by_side_and_give_their_results(benchmarks: ModuleType) -> None:
    from trainings import side_by_side

    seen = []

    def work(number: int):
        for step in range(number):
            seen.append((number, step))
            yield False
        return number

    assert sorted(side_by_side(map(work, (3, 1, 2)), lanes=2, device="cpu", processes=1)) == [1, 2, 3]
    assert seen.index((1, 0)) < seen.index((3, 2))


def test_what_is_stored_again_is_the_same_and_what_is_new_is_added(benchmarks: ModuleType) -> None:
    from measure import CELLS, SEEDS

    table = benchmarks.read()
    cells = benchmarks.kept(table)
    stated = {cell.name: cell for cell in CELLS}
    for record in table.cells:
        again = benchmarks.packed(stated[record.name], cells[record.name])
        assert type(record).model_validate(again) == record
    cell = stated["imagenette-20"]
    known = {
        "cell": cell.name,
        "hash": table.policies[3].policy["hash"],
        "train_images": 200,
        "test_images": 600,
        "steps": 200,
        "race": {f"{rate:g}": [0.5, 1.0] for rate in cell.rates},
        "few_shot": dict.fromkeys((*benchmarks.FEW_SHOT, "queries"), 1),
    }
    numbers = {entry.policy["hash"]: number for number, entry in enumerate(table.policies)}
    for seed in SEEDS:
        trained = {f"{rate:g}": {str(seed): [0.25, 1.0]} for rate in cell.rates}
        benchmarks.add(cells, [json.loads(json.dumps(known | {"trained": trained}))], numbers)
        whole = benchmarks.packed(cell, cells[cell.name])["policies"]
        assert whole == ([3] if seed == SEEDS[-1] else [])


def test_nothing_is_measured_twice(benchmarks: ModuleType) -> None:
    from measure import CELLS, known_of

    table = benchmarks.read()
    known = known_of(table)
    for cell in (cell for cell in CELLS if cell.name in {record.name for record in table.cells}):
        (record,) = (record for record in table.cells if record.name == cell.name)
        for number in record.policies:
            have = known[cell.name, table.policies[number].policy["hash"]]
            assert {("race", rate) for rate in cell.rates} <= have
            assert {(rate, seed) for rate in cell.rates for seed in table.seeds} <= have
