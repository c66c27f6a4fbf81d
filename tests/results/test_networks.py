"""Runs of several networks: names of their folders, numbers of their trials, and what a front says of them."""

import json
from dataclasses import replace

import pytest

from tinysearch.core.errors import InputError
from tinysearch.results.front import Front
from tinysearch.results.networks import network_name, numbered_together
from tinysearch.results.plots import draw_pareto
from tinysearch.results.rundir import RunDirectory
from tinysearch.results.tables import render

NAMES = [("a.b:c", 96), ("a-b:c", 96), ("a.b:c", 9), ("a.b:c-9", 6), ("../x", 96), ("a/b", 96), ("a%2Fb", 96)]


@pytest.fixture
def several(trial, front):
    """A front of two networks."""
    made = front([trial(0, method="last"), trial(1), trial(2), trial(3, method="last")])
    members = [
        replace(member, backbone=("mobilenetv2-w0.35-tf", "mcunet-5fps")[member.trial % 2], input_size=128)
        for member in made.members
    ]
    return replace(made, members=tuple(members))


def test_every_network_has_a_folder_of_its_own():
    names = [network_name(*network) for network in NAMES]
    assert len(set(names)) == len(NAMES)
    assert not any("/" in name for name in names)


def test_a_trial_keeps_its_number_when_others_are_added(trial):
    one, two, three = ([trial(number, accuracy=accuracy) for number in range(3)] for accuracy in (0.1, 0.2, 0.3))
    few = numbered_together([one[:1], two[:1], three[:1]])
    many = numbered_together([one, two, three])
    assert [[each.number for each in own] for own in many] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert [own[0] for own in many] == [own[0] for own in few]
    assert numbered_together([one]) == [one]


# --- the front -------------------------------------------------------------------------------------------------------


def test_members_say_their_network_and_are_read_back(several):
    content = json.loads(several.to_json())
    assert content["version"] == 2
    assert [(member["backbone"], member["input_size"]) for member in content["members"]][:2] == [
        ("mobilenetv2-w0.35-tf", 128),
        ("mcunet-5fps", 128),
    ]
    assert Front.from_json(several.to_json()) == several


def test_a_front_of_one_network_is_written_as_it_always_was(trial, front):
    content = json.loads(front([trial(0), trial(1)]).to_json())
    assert content["version"] == 1
    assert not {"backbone", "input_size"} & content["members"][0].keys()


def test_fronts_of_others_are_read(several):
    """Of version 1 with a network, as nobody writes it; of version 3 with what is not known; and with nonsense."""
    content = json.loads(several.to_json())
    assert Front.from_json(json.dumps(content | {"version": 1})) == several
    newer = content | {"version": 3, "members": [member | {"weights": "x"} for member in content["members"]]}
    with pytest.warns(UserWarning, match=r"newer format \(version 3\); ignored: members.weights"):
        assert Front.from_json(json.dumps(newer)) == several
    wrong = content | {"members": [content["members"][0] | {"input_size": 0}]}
    with pytest.raises(InputError, match="input_size"):
        Front.from_json(json.dumps(wrong))


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_the_network_of_each(several, width):
    text = render(several, "table", width=width)
    lines = [line for line in text.splitlines() if line.startswith("│")]
    whole = "".join(line.split("│")[2].strip() + " " for line in lines)
    assert "mcunet-5fps 128" in whole
    assert max(map(len, lines)) <= width
    for member in several.members:
        assert any(member.hash[:8] in line and "ms" in line for line in lines)


def test_the_picture_says_the_network_where_it_changes(several, trial):
    """Members 0 and 2 are of the first network, 1 and 3 of the second; the last member is followed by one like it."""
    first, second, third, fourth = several.members
    several = replace(several, members=(first, second, replace(third, backbone=second.backbone), fourth))
    policy = '{"backbone": "mcunet-5fps", "input_shape": [3, 96, 96]}'
    figure = draw_pareto(several, [trial(9, method="bias", policy=policy), trial(10, policy=policy, accuracy=0.1)])
    for axes in figure.axes[:1]:
        assert sorted(note.get_text() for note in axes.texts) == [
            "bias, mcunet-5fps 96",
            "last, mcunet-5fps 128",
            "last, mobilenetv2-w0.35-tf 128",
            "mcunet-5fps 128",
        ]


# --- the run directory -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, genes, trial):
    """Two networks with three trials."""
    with RunDirectory.open(tmp_path / "run", {"networks": {"a-96": {}, "b-96": {}}}):
        for name, count in (("a-96", 2), ("b-96", 1)):
            own = RunDirectory.open(tmp_path / "run" / "networks" / name, {"backbone": name})
            with own, own.store(genes) as store:
                for number in range(count):
                    store.append(trial(number))
    return RunDirectory.load(tmp_path / "run")


def test_a_run_has_the_trials_of_its_networks(run):
    assert [network.path.name for network in run.networks] == ["a-96", "b-96"]
    assert [trial.number for trial in run.trials()] == [0, 1, 2]


def test_a_member_leads_to_the_run_of_its_network(run, several, tmp_path):
    first, second = several.members[:2]
    assert run.of(first).path.name == "a-96"
    assert run.of(second).path.name == "b-96"
    alone = run.networks[0]
    assert alone.networks == ()
    assert alone.of(second) is alone


def test_a_network_that_is_missing_or_elsewhere_is_one_line(run, tmp_path):
    (run.path / "networks" / "b-96" / "request.json").unlink()
    with pytest.raises(InputError, match=r"b-96 is no run"):
        run.trials()
    for name in ("..", "", "../../x", "/tmp"):
        with pytest.raises(InputError, match="no name of a folder"):
            _ = RunDirectory(run.path, {"networks": {name: {}}}).networks
    with pytest.raises(InputError, match="no name of a folder"):
        _ = RunDirectory(run.path, {"networks": 3}).networks
