import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tinysearch.core.errors import InputError
from tinysearch.results.front import Front
from tinysearch.results.records import Judgement, Member, RunInfo


def test_members_are_the_trials_that_nothing_dominates(trial, front):
    trials = [
        trial(0, accuracy=0.9, peak_bytes=900, latency_s=0.3, method="full"),
        trial(1, accuracy=0.5, peak_bytes=100, latency_s=0.1, method="last"),
        trial(2, accuracy=0.4, peak_bytes=200, latency_s=0.2),
        trial(3, accuracy=0.6, peak_bytes=900, latency_s=0.05),
        trial(4, state="infeasible", accuracy=None, peak_bytes=10),
        trial(5, state="failed", accuracy=None, error="out of memory"),
    ]
    result = front(trials)
    assert [member.trial for member in result.members] == [1, 3, 0]
    assert [member.method for member in result.members] == ["last", None, "full"]
    assert result.members[0].policy == f"policies/{trials[1].hash}.json"
    assert result.run.trials == 6


def test_of_equal_trials_the_named_method_that_came_first_stays(trial, front):
    same = {"accuracy": 0.7, "peak_bytes": 500, "latency_s": 0.1}
    result = front([trial(0, method="bias", **same), trial(1, **same), trial(2, **same)])
    assert [member.method for member in result.members] == ["bias"]


def test_one_member_and_none(trial, front):
    assert front([trial(0)]).best().trial == 0
    empty = front([trial(0, state="failed", accuracy=None)])
    assert empty.members == ()
    assert empty.hypervolume == 0
    assert Front.from_json(empty.to_json()) == empty
    with pytest.raises(InputError, match="empty"):
        empty.best()


def test_hypervolume_of_one_member(trial, front):
    result = front([trial(0, accuracy=0.55, peak_bytes=10_000_000, latency_s=0.3)])
    assert result.hypervolume == pytest.approx(0.5**3)


def test_best_keeps_to_limits(trial, front):
    trials = [trial(n, accuracy=0.5 + n / 10, peak_bytes=1024 * 4**n, latency_s=0.1 * (n + 1)) for n in range(5)]
    result = front(trials)
    assert result.best().trial == 4
    assert result.best(memory="16KiB").trial == 2
    assert result.best(memory=16 * 1024 - 1).trial == 1
    assert result.best(memory="1MiB", latency="250ms").trial == 1
    assert result.best(energy="0.3J").trial == 4


def test_best_of_equal_accuracy_is_the_smaller(trial, front):
    result = front(
        [
            trial(0, accuracy=0.8, peak_bytes=900, latency_s=0.1),
            trial(1, accuracy=0.8, peak_bytes=100, latency_s=0.2),
        ]
    )
    assert result.best().trial == 1


def test_best_names_what_comes_nearest(trial, front):
    result = front([trial(3, peak_bytes=91 * 1024, latency_s=0.002), trial(4, accuracy=0.9, peak_bytes=2**20)])
    with pytest.raises(InputError, match=rf"at most 64 KiB \(the least is 91 KiB, policy {3:016x}\)"):
        result.best(memory="64KiB")
    with pytest.raises(InputError, match=r"peak memory of at most 64 KiB.* and a step latency of at most 1 ms"):
        result.best(memory="64KiB", latency="1ms")


@pytest.mark.parametrize("limits", [{"memory": "much"}, {"memory": -1}, {"latency": "3KiB"}, {"energy": float("nan")}])
def test_best_refuses_limits_that_are_none(trial, front, limits):
    with pytest.raises(InputError):
        front([trial(0)]).best(**limits)


def test_a_member_is_found_by_its_hash_its_method_or_for_being_the_best(trial, front):
    result = front([trial(0, method="last"), trial(1, accuracy=0.9), trial(2, accuracy=0.99, latency_s=9.0)])
    assert result.find("last").trial == 0
    assert result.find(f"{1:016x}").trial == 1
    assert result.find("best").trial == 2
    assert result.find("best", memory="80kB", latency="1s").trial == 1
    for name, words in (("000000", "3 members"), ("zzz", "0 members of the front are called 'zzz'")):
        with pytest.raises(InputError, match=words):
            result.find(name)
    with pytest.raises(InputError, match="leave them out with policy 'last'"):
        result.find("last", memory="1kB")


def test_unknown_energy_never_fits(trial, front):
    with pytest.raises(InputError, match="a known step energy"):
        front([trial(0, energy_j=None)]).best(energy="1kJ")


def test_json_round_trip(cloud, front):
    trials = cloud(40)
    trials[3] = replace(trials[3], accuracy=0.99, warnings=("outside its range", "ünïcode"), energy_j=None)
    result = front(trials)
    text = result.to_json()
    assert Front.from_json(text) == result
    content = json.loads(text)
    assert content["format"] == "tinysearch.front"
    assert content["version"] == 1
    assert content["reference_point"]["peak_bytes"] == 2e7
    assert {"policy", "hash", "accuracy", "accuracy_se", "peak_bytes", "method"} < set(content["members"][0])


def test_newer_version_is_read_and_its_new_keys_named(trial, front):
    result = front([trial(0)])
    content = json.loads(result.to_json()) | {"version": 3, "colour": "red"}
    content["members"][0]["carbon"] = 3
    content["run"]["region"] = "eu"
    with pytest.warns(UserWarning, match=r"version 3\); ignored: colour, members.carbon, run.region"):
        assert Front.from_json(json.dumps(content), "x") == result


def _broken(content, path, value):
    part = content
    for key in path[:-1]:
        part = part[key]
    if value is KeyError:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "tinysearch.policy", "no front"),
        (["version"], "1", "version"),
        (["version"], 0, "version"),
        (["colour"], "red", "colour"),
        (["members", 0, "accuracy"], 1.5, "members.0.accuracy"),
        (["members", 0, "accuracy"], float("nan"), "members.0.accuracy"),
        (["members", 0, "peak_bytes"], -1, "members.0.peak_bytes"),
        (["members", 0, "hash"], "../../etc", "members.0.hash"),
        (["members", 0, "macs"], KeyError, "members.0.macs"),
        (["members", 0, "carbon"], 1, "members.0.carbon"),
        (["run", "batch"], 0, "run.batch"),
        (["objectives"], [], "objectives"),
        (["reference_point"], {"accuracy": 0.1}, "both points"),
        (["hypervolume"], None, "hypervolume"),
        (["members"], "none", "members"),
    ],
)
def test_a_wrong_file_is_refused_and_the_field_named(trial, front, path, value, message):
    text = _broken(json.loads(front([trial(0)]).to_json()), path, value)
    with pytest.raises(InputError, match=message) as caught:
        Front.from_json(text, "runs/x/front.json")
    assert str(caught.value).startswith("runs/x/front.json: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"front"'])
def test_what_is_no_front_at_all(text):
    with pytest.raises(InputError):
        Front.from_json(text)


def test_data_frame(cloud, front):
    pandas = pytest.importorskip("pandas")
    result = front(cloud(30))
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["hash"].tolist() == [member.hash for member in result.members]
    assert list(front([]).to_dataframe().columns) == list(frame.columns)


def test_data_frame_without_pandas_names_the_extra(trial, front, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"tinysearch\[dataframe\]"):
        front([trial(0)]).to_dataframe()


def test_members_are_immutable_and_finite(trial, front):
    member = front([trial(0)]).members[0]
    with pytest.raises(AttributeError):
        member.accuracy = 1.0
    with pytest.raises(ValidationError):
        Member(**{**member.__dict__, "latency_s": float("inf")})


def test_importing_results_loads_nothing_heavy():
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, tinysearch.results.rundir, tinysearch.results.tables, tinysearch.results.plots\n"
        "print({'torch', 'optuna', 'matplotlib', 'moocore', 'pandas', 'rich'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


def test_a_member_without_an_arena_is_written_as_before_there_was_one(trial, front):
    eager, arena = (front([trial(0, arena_bytes=size)]) for size in (None, 50_000))
    assert "arena_bytes" not in eager.to_dict()["members"][0]
    assert arena.to_dict()["members"][0]["arena_bytes"] == 50_000
    for written in (eager, arena):
        assert Front.from_json(written.to_json()) == written


def test_a_member_is_compared_with_the_most_accurate_of_those_that_cost_less(trial):
    trials = [
        trial(0, accuracy=0.5, peak_bytes=100, latency_s=0.10),
        trial(1, accuracy=0.7, peak_bytes=200, latency_s=0.30),
        trial(2, accuracy=0.6, peak_bytes=300, latency_s=0.20),  # not compared with 1, which is slower
        trial(3, accuracy=0.8, peak_bytes=400, latency_s=0.299),  # with 1: no prediction is so exact
        trial(4, accuracy=0.4, peak_bytes=500, latency_s=0.05),  # the fastest, compared with none
        trial(5, accuracy=0.3, peak_bytes=600, latency_s=0.40),  # no member
    ]
    judged = {
        n: Judgement(t.accuracy, 0.1, as_good={m: (10 * m + n) / 100 for m in range(6)}) for n, t in enumerate(trials)
    }
    run = RunInfo(device="rpi4", dataset="digits", backbone="net", batch=8, proxy="few-shot", seed=0, trials=0)
    chosen = Front.from_trials(
        trials,
        run,
        {"accuracy": 0.1, "peak_bytes": 1e3, "latency_s": 1.0},
        {"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0},
        judged=judged,
    )
    found = {member.trial: member.cheaper_as_good for member in chosen.members}
    assert found == {0: None, 1: 0.01, 2: 0.02, 3: 0.13, 4: None}
    assert chosen.rival(chosen.members[3]) == chosen.members[1]
    assert Front.from_json(chosen.to_json()) == chosen
    assert ["cheaper_as_good" in member for member in chosen.to_dict()["members"]] == [False, True, True, True, False]
