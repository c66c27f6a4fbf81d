import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.devices.costs import Costs
from tinysearch.results.limits import Limits
from tinysearch.results.records import TrialRecord
from tinysearch.search.engine import Search
from tinysearch.search.problem import Problem
from tinysearch.search.proxies.base import Score
from tinysearch.search.request import ROUND_SIZE
from tinysearch.search.samplers import Sampler, make_sampler
from tinysearch.search.samplers.random import RandomSampler
from tinysearch.search.stopping import AfterSeconds, AfterTrials, FirstOf
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.policy import Channels, LayerUpdate, UpdatePolicy
from tinysearch.spaces.space import Genotype, UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace

SAMPLER_WARM_UP = 10


class MemoryStore:
    """Trials in a list, in the order they came in."""

    def __init__(self, trials: Sequence[TrialRecord] = ()) -> None:
        self.trials = list(trials)

    def first(self) -> list[TrialRecord]:
        return sorted(self.trials, key=lambda record: record.number)

    def append(self, trial: TrialRecord) -> None:
        assert trial.number not in {known.number for known in self.trials}
        self.trials.append(trial)


def score(policy: UpdatePolicy) -> Score:
    accuracy = int(policy.hash[:4], 16) / 0xFFFF
    return Score(accuracy, 0.01, 1 - accuracy, 1e-3, 0.5)


class Evaluator:
    """Scores by hash, in an order of its own, and remembers what it was asked for."""

    def __init__(self, order: int | None = None, failing: Callable[[UpdatePolicy], bool] = lambda _: False) -> None:
        self.asked: list[UpdatePolicy] = []
        self._random = None if order is None else random.Random(order)
        self._failing = failing

    def __call__(self, policies: Sequence[UpdatePolicy], *_: object) -> Iterator[tuple[int, Score | str]]:
        self.asked += policies
        places = list(range(len(policies)))
        if self._random is not None:
            self._random.shuffle(places)
        for place in places:
            yield place, "broke" if self._failing(policies[place]) else score(policies[place])


MakeSearch = Callable[..., Search]


@pytest.fixture(scope="module")
def make_search(problem: Problem) -> MakeSearch:
    """A search over `tiny_net` seeded with the published methods; keyword arguments replace its fields."""
    seeds = [problem.on_device(policy) for policy in methods.named(problem.trace).values()]

    def make(
        *, sampler: str | Sampler = "random", trials: int = 22, seconds: float = float("inf"), **changes: object
    ) -> Search:
        space = changes.get("space", problem.space)
        assert isinstance(space, UpdateSpace)
        fields = {
            "space": space,
            "sampler": make_sampler(sampler, space, 0, warm_up=SAMPLER_WARM_UP)
            if isinstance(sampler, str)
            else sampler,
            "cost": problem.cost,
            "adapt": problem.on_device,
            "evaluate": Evaluator(),
            "limits": Limits(),
            "store": MemoryStore(),
            "seeds": seeds,
            "stop": FirstOf((AfterTrials(trials), AfterSeconds(seconds))),
        }
        return Search(**(fields | changes))  # type: ignore[arg-type]

    return make


def found(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Records as far as they do not depend on the clock, by number."""
    return [replace(r, started="", seconds=0.0) for r in sorted(records, key=lambda record: record.number)]


@pytest.fixture(scope="module")
def limits(problem: Problem, make_search: MakeSearch) -> Limits:
    """Limits that about half of the published methods break."""
    costs = problem.cost(UpdateTable.of(problem.trace, list(make_search().seeds)))
    return Limits(peak_bytes=float(np.median(costs.peak_bytes)), latency_s=float(np.quantile(costs.latency_s, 0.7)))


@pytest.fixture(scope="module")
def uninterrupted(make_search: MakeSearch, limits: Limits) -> list[TrialRecord]:
    return found(list(make_search(limits=limits)))


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_every_policy_is_new_and_every_trial_is_kept_when_it_is_told(make_search: MakeSearch, sampler: str) -> None:
    search = make_search(sampler=sampler, trials=30)
    for record in search:
        assert search.store.trials[-1] == record  # type: ignore[attr-defined]
    asked = [policy.hash for policy in search.evaluate.asked]  # type: ignore[attr-defined]
    assert len(asked) == len(set(asked)) == 30
    assert [record.number for record in search.store.first()] == list(range(30))


def test_the_known_methods_come_first_and_each_once(make_search: MakeSearch) -> None:
    seeds = make_search().seeds
    records = list(make_search(seeds=[*seeds, *seeds]))
    assert [r.method for r in records[: len(seeds)]] == [p.method for p in seeds]
    assert {r.method for r in records[len(seeds) :]} == {None}


def test_records_hold_the_policy_its_costs_and_its_score(make_search: MakeSearch, problem: Problem) -> None:
    record = next(r for r in make_search() if r.number == 15)
    policy = UpdatePolicy.from_json(record.policy)
    costs = problem.cost(UpdateTable.of(problem.trace, [policy]))
    assert policy.hash == record.hash
    assert policy.training.learning_rate == record.learning_rate == 1e-3
    assert policy.training.optimizer == problem.device.optimizer
    assert record.accuracy == score(policy).accuracy
    assert (record.peak_bytes, record.macs) == (costs.peak_bytes[0], costs.macs[0])
    assert record.latency_s == pytest.approx(costs.latency_s[0])
    assert problem.space.decode(np.array(record.row)).hash == record.hash


def test_no_policy_over_the_limits_is_trained_and_methods_over_them_are_recorded(
    make_search: MakeSearch, limits: Limits, problem: Problem
) -> None:
    search = make_search(limits=limits)
    records = list(search)
    asked = search.evaluate.asked  # type: ignore[attr-defined]
    assert not limits.exceeded(problem.cost(UpdateTable.of(problem.trace, asked))).any()
    over = [r for r in records if r.state == "infeasible"]
    assert 2 <= len(over) < len(search.seeds)
    assert all(r.method and r.accuracy is None and r.error == "over budget" for r in over)
    assert not {r.hash for r in over} & {policy.hash for policy in asked}
    assert sum(r.state == "complete" for r in records) == 22 == len(asked)
    # What is cut to fit is not cut to nothing.
    assert len({r.peak_bytes for r in records if r.state == "complete" and r.method is None}) > 3


def test_limits_that_only_the_head_keeps_leave_one_policy(make_search: MakeSearch, problem: Problem) -> None:
    least = problem.cost(UpdateTable.frozen(problem.trace, 1))
    records = list(make_search(limits=Limits(peak_bytes=float(least.peak_bytes[0]))))
    assert [r.method for r in records if r.state == "complete"] == ["last"]


@pytest.mark.parametrize("name", ["peak_bytes", "flash_bytes", "latency_s", "energy_j"])
def test_each_limit_is_inclusive_and_none_is_no_limit(name: str, problem: Problem) -> None:
    costs: Costs = problem.cost(problem.space.table(problem.space.sample(20, 0)))
    values = getattr(costs, name)
    assert not Limits().exceeded(costs).any()
    most = float(np.sort(values)[10])
    assert (Limits(**{name: most}).exceeded(costs) == (values > most)).all()
    assert not Limits(**{name: most}).exceeded(costs)[values == most].any()


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_what_is_found_does_not_depend_on_the_order_of_completion(make_search: MakeSearch, sampler: str) -> None:
    in_order, shuffled = (make_search(sampler=sampler, evaluate=Evaluator(order)) for order in (None, 7))
    assert found(list(in_order)) == found(list(shuffled))


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_run_killed_at_any_moment_resumes_to_the_same_trials(
    data: st.DataObject, make_search: MakeSearch, limits: Limits, uninterrupted: list[TrialRecord]
) -> None:
    """The rounds before the kill are whole; of the round in progress any subset of trials may be in the store."""
    rounds = data.draw(st.integers(0, (len(uninterrupted) - 1) // ROUND_SIZE), "finished rounds")
    started = uninterrupted[rounds * ROUND_SIZE : (rounds + 1) * ROUND_SIZE]
    kept = data.draw(st.permutations(started), "order of completion")[: data.draw(st.integers(0, len(started)))]
    before = uninterrupted[: rounds * ROUND_SIZE] + kept
    evaluate = Evaluator(order=1)
    search = make_search(limits=limits, store=MemoryStore(before), evaluate=evaluate)
    new = list(search)
    assert found(search.store.first()) == uninterrupted
    assert found([*before, *new]) == uninterrupted
    assert not {policy.hash for policy in evaluate.asked} & {record.hash for record in before}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_learning_sampler_resumes_too(make_search: MakeSearch, sampler: str) -> None:
    whole = found(list(make_search(sampler=sampler)))
    for kept in (5, 14, 19):
        search = make_search(sampler=sampler, store=MemoryStore(whole[:kept]))
        list(search)
        assert found(search.store.first()) == whole


@pytest.mark.parametrize("first", [1, 3, 9, 10])
def test_more_trials_later_are_those_of_a_longer_run(make_search: MakeSearch, first: int) -> None:
    store = MemoryStore()
    list(make_search(store=store, trials=first))
    assert len(store.first()) == first
    list(make_search(store=store))
    assert found(store.first()) == found(list(make_search()))


def test_fewer_trials_later_change_nothing(make_search: MakeSearch) -> None:
    store = MemoryStore()
    list(make_search(store=store, trials=9))
    evaluate = Evaluator()
    assert list(make_search(store=store, trials=4, evaluate=evaluate)) == []
    assert evaluate.asked == []


def test_failures_are_recorded_counted_and_not_tried_again(make_search: MakeSearch) -> None:
    store = MemoryStore()
    evaluate = Evaluator(failing=lambda policy: int(policy.hash[-1], 16) % 2 == 0)
    records = list(make_search(store=store, evaluate=evaluate))
    failed = [r for r in records if r.state == "failed"]
    assert len(records) == 22
    assert 0 < len(failed) < 22
    assert all(r.error == "broke" and r.accuracy is None and r.peak_bytes for r in failed)
    again = Evaluator()
    assert list(make_search(store=store, evaluate=again)) == []
    assert again.asked == []


def test_a_search_in_which_everything_fails_ends(make_search: MakeSearch) -> None:
    records = list(make_search(evaluate=Evaluator(failing=lambda _: True), trials=9))
    assert [r.state for r in records] == ["failed"] * 9


def test_no_round_begins_after_the_time_is_over(make_search: MakeSearch) -> None:
    assert list(make_search(seconds=0.0)) == []
    # A round that has begun is finished: its trials are worth more than the seconds they take.
    records = []
    for record in make_search(seconds=1e9):
        records.append(record)
    assert len(records) == 22


def test_a_finished_store_is_read_to_its_end_whatever_the_time(
    make_search: MakeSearch, uninterrupted: list[TrialRecord], limits: Limits
) -> None:
    search = make_search(store=MemoryStore(uninterrupted), limits=limits, seconds=0.0)
    assert list(search) == []


def test_a_space_that_is_exhausted_ends_the_search(
    make_search: MakeSearch, make_problem: Callable[..., Problem]
) -> None:
    small = make_problem(backbone="tiny_net:one_conv")
    everything = {
        small.space.decode(np.array([level, axis])).hash
        for level in range(small.space.levels[0])
        for axis in range(small.space.levels[1])
    }
    evaluate = Evaluator()
    records = list(make_search(space=small.space, cost=small.cost, seeds=[], evaluate=evaluate, trials=100))
    assert {r.hash for r in records} == everything
    assert len(records) == len(everything)


def test_a_space_without_genes_has_its_one_policy_tried(
    make_search: MakeSearch, make_problem: Callable[..., Problem]
) -> None:
    small = make_problem(backbone="tiny_net:one_conv")
    space = UpdateSpace(trace(load_backbone("tiny_net:head_only"), (3, 16, 16)))
    records = list(make_search(space=space, cost=small.cost, seeds=[]))
    assert [r.state for r in records] == ["complete"]
    assert records[0].row == ()
    nothing = Limits(peak_bytes=0)  # not even the head: nothing is trained, and the search ends all the same
    search = make_search(space=space, cost=small.cost, seeds=[], limits=nothing)
    assert {r.state for r in search} == {"infeasible"}
    assert search.evaluate.asked == []  # type: ignore[attr-defined]


def test_what_is_trained_is_held_to_the_exact_costs(problem: Problem, make_search: MakeSearch, limits: Limits) -> None:
    """As on an arena device, where a plan may need more than the largest sum of live bytes."""

    def exact(table: UpdateTable) -> Costs:
        costs = problem.cost(table)
        return replace(costs, peak_bytes=costs.peak_bytes * 5 // 4)

    records = list(make_search(limits=limits, exact=exact))
    bound = {r.hash: r.peak_bytes for r in make_search(limits=limits)}
    assert limits.peak_bytes is not None
    assert all(r.peak_bytes <= limits.peak_bytes for r in records if r.tried)
    refused = [r for r in records if not r.tried and bound.get(r.hash, np.inf) <= limits.peak_bytes]
    assert refused or any(r.peak_bytes > limits.peak_bytes for r in records)
    assert {r.hash for r in records if r.method} == {r.hash for r in make_search(limits=limits) if r.method}


class Spy(RandomSampler):
    """Remembers what it was told."""

    def __init__(self, space: UpdateSpace, seed: int) -> None:
        super().__init__(space, seed)
        self.told: list[tuple[int, ...]] = []

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        super().tell(genotype, values)
        self.told.append(tuple(genotype.tolist()))


@pytest.fixture(scope="module")
def stranger(problem: Problem) -> UpdatePolicy:
    """A policy that the space has not: it would fill channels by their norm."""
    layer = next(layer for layer in problem.trace.layers if layer.kind == "conv" and layer.groups == 1)
    update = LayerUpdate(name=layer.name, weight=Channels(axis="out", index=(0,)))
    other = LayerUpdate(name=layer.name, weight=Channels(axis="out", index=(1,)))
    last = methods.last(problem.trace)
    made = (last.model_copy(update={"layers": (each,), "method": "stranger"}) for each in (update, other))
    return next(policy for policy in made if not problem.space.contains(policy))


def test_the_sampler_is_told_the_truth_or_nothing(
    make_search: MakeSearch, problem: Problem, stranger: UpdatePolicy
) -> None:
    """Of a policy outside of the space, the row that comes closest was never scored."""
    seeds = [problem.on_device(policy) for policy in (stranger, methods.last(problem.trace))]
    spy = Spy(problem.space, 0)
    search = make_search(sampler=spy, seeds=seeds, trials=12)
    records = list(search)
    assert [record.row is None for record in records] == [True] + [False] * 11
    assert records[0].state == "complete"
    assert spy.told == [record.row for record in records[1:]]
    assert all(problem.space.decode(np.array(r.row)).hash == r.hash for r in records if r.row is not None)


@pytest.mark.parametrize("kept", [1, 3, 6, 10])
def test_a_run_with_a_policy_outside_of_the_space_resumes_too(
    make_search: MakeSearch, problem: Problem, stranger: UpdatePolicy, kept: int
) -> None:
    seeds = [problem.on_device(policy) for policy in (methods.last(problem.trace), stranger)]
    whole = found(list(make_search(sampler="nsga2", seeds=seeds, trials=14)))
    search = make_search(sampler="nsga2", seeds=seeds, trials=14, store=MemoryStore(whole[:kept]))
    list(search)
    assert found(search.store.first()) == whole


def test_a_search_says_why_it_ended(make_search: MakeSearch, make_problem: Callable[..., Problem]) -> None:
    small = make_problem(backbone="tiny_net:one_conv")
    searches = {
        "5 policies were tried": make_search(trials=5),
        "the time of 0 ns is over": make_search(seconds=0.0),
        "there is nothing new to try": make_search(space=small.space, cost=small.cost, seeds=[], trials=100),
    }
    for reason, search in searches.items():
        assert search.ended == ""
        list(search)
        assert search.ended.startswith(reason)
