"""What is believed of trials: ties, gains, and what a front does without."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tinysearch.devices.costs import cost_table
from tinysearch.devices.profile import load_device
from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.search.judgement import doubts, evidence_of, judge, judge_together
from tinysearch.spaces import methods
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.testing.networks import SmallNet, traced
from tinysearch.testing.samplers import Task

QUERIES = 400
Make = Callable[..., TrialRecord]


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(UpdateSpace(traced(SmallNet)))


@pytest.fixture(scope="module")
def make(task: Task) -> Make:
    def trial(number: int, policy: UpdatePolicy, right: int, state: str = "complete") -> TrialRecord:
        """A trial of which so many queries were answered right, the first ones."""
        costs = cost_table(UpdateTable.of(task.trace, [policy]), load_device("rpi4"))
        answers = np.arange(QUERIES) < right
        return TrialRecord(
            number=number,
            hash=policy.hash,
            policy=policy.to_json(),
            row=None,
            method=policy.method,
            state=state,  # type: ignore[arg-type]
            accuracy=right / QUERIES,
            accuracy_se=0.025,
            peak_bytes=int(costs.peak_bytes[0]),
            latency_s=float(costs.latency_s[0]),
            answers=np.packbits(answers).tobytes().hex(),
        )

    return trial


def test_gains_are_over_the_head_alone(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 200), make(1, methods.full(task.trace), 320)]
    judged = judge(task, trials)
    assert judged[0].gain == judged[0].gain_se == 0
    assert judged[1].gain == pytest.approx(judged[1].accuracy - judged[0].accuracy)
    assert 0.1 < (judged[1].gain or 0) < 0.35
    assert not judged[0].tied
    assert judged[1].tied
    assert not judged[0].covered


def test_without_the_head_alone_there_is_no_gain(task: Task, make: Make) -> None:
    (judgement,) = judge(task, [make(0, methods.full(task.trace), 320)]).values()
    assert judgement.gain is judgement.gain_se is None
    assert judgement.tied


def test_what_costs_more_and_is_no_better_is_covered(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 320), make(1, methods.full(task.trace), 250)]
    judged = judge(task, trials)
    assert judged[1].covered
    assert not judged[0].covered
    assert judged[0].tied


def test_of_equals_the_first_stays(task: Task, make: Make) -> None:
    policy = methods.bias(task.trace)
    judged = judge(task, [make(0, policy, 300), make(1, policy, 300)])
    assert (judged[0].covered, judged[1].covered) == (False, True)


def test_only_what_was_scored_is_judged(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 200), make(1, methods.full(task.trace), 1, state="infeasible")]
    assert judge(task, trials).keys() == {0}
    assert judge(task, trials[1:]) == {}


def test_answers_are_read_as_they_were_written(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 100), make(1, methods.full(task.trace), 300)]
    evidence = evidence_of(trials)
    assert evidence.accuracy.tolist() == [0.25, 0.75]
    assert evidence.noise[0, 1] == pytest.approx((0.25 - 0.25 * 0.75) / QUERIES)


def test_too_few_images_are_said_in_numbers(task: Task, make: Make) -> None:
    """Of 400 queries, one more or less tells nothing; a hundred do."""
    last, full = methods.last(task.trace), methods.full(task.trace)
    near, far = ([make(0, last, 200), make(1, full, right)] for right in (201, 300))
    (warning,) = doubts(near, judge(task, near))
    assert warning.startswith("400 query images: differences in accuracy below ")
    assert doubts(far, judge(task, far)) == ()
    assert doubts(near[:1], judge(task, near[:1])) == ()


def again(trial: TrialRecord, right: int | None, number: int = 1) -> Rescore:
    if right is None:
        return Rescore(trial=trial.number, round=number, error="broke")
    answers = np.packbits(np.arange(QUERIES) < right).tobytes().hex()
    return Rescore(trial=trial.number, round=number, accuracy=right / QUERIES, accuracy_se=0.025, answers=answers)


def test_what_was_scored_again_counts_and_what_failed_does_not(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 200), make(1, methods.full(task.trace), 320)]
    once = judge(task, trials)
    assert judge(task, trials, [again(trials[1], None)]) == once
    worse = judge(task, trials, [again(trials[0], 200), again(trials[1], 240)])
    assert 0 < (worse[1].gain or 0) < (once[1].gain or 0)
    assert (worse[1].gain_se or 0) < (once[1].gain_se or 0)


def test_rounds_that_agree_make_gains_surer(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 200), make(1, methods.full(task.trace), 240)]
    rescores = [
        again(trial, right, number) for number in (1, 2) for trial, right in zip(trials, (200, 240), strict=True)
    ]
    errors = [judge(task, trials, rescores[:count])[1].gain_se or 0 for count in (0, 2, 4)]
    assert errors == sorted(errors, reverse=True)


def test_how_likely_another_is_as_good_is_the_share_of_the_posterior(task: Task, make: Make) -> None:
    policies = (methods.last(task.trace), methods.bias(task.trace), methods.full(task.trace))
    trials = [
        make(number, policy, right)
        for number, (policy, right) in enumerate(zip(policies, (190, 200, 207), strict=True))
    ]
    judged = judge(task, trials)
    assert all(judged[number].as_good.keys() == {0, 1, 2} - {number} for number in judged)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert judged[one].as_good[other] + judged[other].as_good[one] == pytest.approx(1)
    gain, error = judged[2].gain or 0, judged[2].gain_se or 0
    draws = np.random.default_rng(0).normal(gain, error, 200_000)
    assert judged[2].as_good[0] == pytest.approx(float((draws <= 0).mean()), abs=0.01)


def test_of_trials_without_answers_the_standard_errors_count(task: Task, make: Make) -> None:
    trials = [
        replace(make(n, p, 300), answers="") for n, p in enumerate((methods.last(task.trace), methods.full(task.trace)))
    ]
    once, twice = judge(task, trials), judge(task, trials, [replace(again(t, 300), answers="") for t in trials])
    assert (twice[1].gain_se or 0) < (once[1].gain_se or 0)


def test_trials_that_do_not_note_their_images_answered_those_that_others_note(task: Task, make: Make) -> None:
    trials = [make(0, methods.last(task.trace), 200), make(1, methods.full(task.trace), 240)]
    noted = [replace(trial, images=tuple(range(QUERIES))) for trial in trials]
    mixed, known = evidence_of([trials[0], noted[1]]), evidence_of(noted)
    np.testing.assert_array_equal(mixed.noise, known.noise)


# --- several networks ------------------------------------------------------------------------------------------------


def test_networks_are_judged_together_each_against_its_own_head(task: Task, make: Make) -> None:
    """The second network is like the first, and 20 points more accurate."""
    first = [make(0, methods.last(task.trace), 160), make(2, methods.full(task.trace), 200)]
    second = [make(1, methods.last(task.trace), 240), make(3, methods.full(task.trace), 280)]
    judged = judge_together([task, task], [first, second])
    for own in (first, second):
        alone = judge(task, own)
        for trial in own:
            one, other = judged[trial.number], alone[trial.number]
            assert (one.accuracy, one.accuracy_se, one.gain, one.gain_se) == (
                other.accuracy,
                other.accuracy_se,
                other.gain,
                other.gain_se,
            )
    assert judged[0].gain == judged[1].gain == 0
    assert [judged[number].tied for number in range(4)] == [False, False, False, True]
    # The first's head costs as much as the second's, which dominates it; all that it trains is covered by that.
    assert [judged[number].covered for number in range(4)] == [False, False, True, False]


def test_of_equals_of_two_networks_the_first_stays(task: Task, make: Make) -> None:
    policy = methods.bias(task.trace)
    judged = judge_together([task, task], [[make(0, policy, 300)], [make(1, policy, 300)]])
    assert (judged[0].covered, judged[1].covered) == (False, True)
    assert judged[0].tied
    assert judged[1].tied


def test_a_network_without_a_result_takes_no_part(task: Task, make: Make) -> None:
    trials = [make(1, methods.last(task.trace), 200), make(3, methods.full(task.trace), 320)]
    alone = judge(task, trials)
    assert judge_together([task, task], [[], trials]) == alone
    assert judge_together([task, task], [[make(0, methods.last(task.trace), 0, "failed")], trials]) == alone
    assert judge_together([task, task], [[], []]) == {}


def test_of_very_many_trials_the_foremost_are_judged_as_if_there_were_no_others(
    task: Task, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = make(0, methods.last(task.trace), 100)
    chance = np.random.default_rng(0)
    policies = [task.space.decode(row) for row in task.space.sample(40, 0)]
    trials = [last, *(make(n, policy, int(chance.integers(150, 350))) for n, policy in enumerate(policies, start=1))]
    monkeypatch.setattr("tinysearch.search.judgement.MOST", 12)
    judged = judge(task, trials)
    assert len(judged) == 12
    assert 0 in judged  # what gains are measured from, though it is worse than others
    few = [trial for trial in trials if trial.number in judged]
    assert judge(task, few) == judged
    best = max(trials, key=lambda trial: trial.accuracy or 0.0)
    assert best.number in judged
