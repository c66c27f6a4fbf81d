"""Policies: immutable, equal by content, and read back as written."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.spaces import methods
from tinysearch.spaces.policy import Channels, LayerUpdate, LiteUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.table import UpdateTable

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
channels = st.builds(
    Channels,
    axis=st.sampled_from(["in", "out"]),
    index=st.sets(st.integers(0, 500), min_size=1, max_size=9).map(sorted).map(tuple),
)
layers = st.builds(
    LayerUpdate, name=names, weight=st.one_of(st.sampled_from(["none", "all"]), channels), bias=st.booleans()
)
norms = st.builds(NormUpdate, name=names, scale=st.booleans(), shift=st.booleans(), statistics=st.booleans())
sizes = st.integers(1, 64)
lites = st.builds(
    LiteUpdate,
    block=names,
    in_channels=sizes,
    out_channels=sizes,
    stride=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5]),
    pool=st.booleans(),
    shift=st.booleans(),
)
policies = st.builds(
    UpdatePolicy,
    backbone=names,
    input_shape=st.tuples(*[st.integers(1, 300)] * 3),
    head=names.map("head {}".format),  # which is no layer's
    layers=st.lists(layers, max_size=4, unique_by=lambda entry: entry.name).map(tuple),
    norms=st.lists(norms, max_size=4, unique_by=lambda entry: entry.name).map(tuple),
    lite_residuals=st.lists(lites, max_size=2, unique_by=lambda entry: entry.block).map(tuple),
    sign_masks=st.lists(names, max_size=3, unique=True).map(tuple),
)


@given(policies)
def test_json_round_trip(policy):
    again = UpdatePolicy.from_json(policy.to_json())
    assert again == policy
    assert again.hash == policy.hash
    jsonschema.validate(json.loads(policy.to_json()), UpdatePolicy.json_schema())


@given(policies, policies)
def test_hash_is_of_what_trains(one, other):
    same = one.model_dump(exclude={"training", "method"}) == other.model_dump(exclude={"training", "method"})
    assert (one.hash == other.hash) == same
    assert one.with_training(learning_rate=0.5).hash == one.hash


def test_a_module_whose_last_shift_trains_is_written_as_before_there_was_a_choice():
    """So files and hashes from before keep their meaning."""
    lite = {"block": "b1", "in_channels": 8, "out_channels": 8, "stride": 1, "kernel": 5, "pool": True}
    base = {"backbone": "b", "input_shape": (3, 8, 8), "head": "fc"}
    trains, frozen = (
        UpdatePolicy.model_validate(base | {"lite_residuals": [lite | x]}) for x in ({}, {"shift": False})
    )
    assert json.loads(trains.to_json())["lite_residuals"] == [lite]
    assert json.loads(frozen.to_json())["lite_residuals"] == [lite | {"shift": False}]
    assert trains.hash != frozen.hash
    assert trains.hash == "bc1ae56a7716d941"


def test_is_immutable_and_hashable():
    policy = UpdatePolicy(backbone="b", input_shape=(3, 8, 8), head="fc")
    with pytest.raises(ValueError, match="frozen"):
        policy.head = "other"
    assert len({policy, policy.with_training(batch=1)}) == 2


def edited(change):
    content = json.loads(UpdatePolicy(backbone="b", input_shape=(3, 8, 8), head="fc").to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON at line 1"),
        ("[]", '"format" must be'),
        (edited(lambda c: c.update(format="other")), '"format" must be'),
        (edited(lambda c: c.update(version="1")), '"version" must be'),
        (edited(lambda c: c.update(surprise=1)), "surprise: extra inputs"),
        (edited(lambda c: c.pop("head")), "head: field required"),
        (edited(lambda c: c.update(layers=[{"name": "a", "weight": "half"}])), "layers.0.weight"),
        (edited(lambda c: c.update(layers=[{"name": "a", "weight": {"axis": "in", "index": [2, 1]}}])), "ascend"),
        (edited(lambda c: c.update(layers=[{"name": "a", "weight": {"axis": "in", "index": [-1]}}])), "greater"),
        (edited(lambda c: c.update(head="other")), "it was edited"),
        (edited(lambda c: c["training"].update(learning_rate=-1)), "learning_rate"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        UpdatePolicy.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_binary_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        UpdatePolicy.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        UpdatePolicy.load(tmp_path / "binary")
    with pytest.raises(InputError, match="is a folder"):
        UpdatePolicy.load(tmp_path)


def test_a_newer_version_is_read_and_its_new_keys_are_named():
    text = edited(lambda c: c.update(version=2, colour="blue"))
    with pytest.warns(UserWarning, match="ignored: colour"):
        assert UpdatePolicy.from_json(text).head == "fc"


def test_what_training_leaves_open_is_left_out_of_the_file():
    """Programs from before it could be left open read such a file."""
    policy = UpdatePolicy(backbone="net", input_shape=(3, 8, 8), head="fc")
    assert set(json.loads(policy.to_json())["training"]) == {"learning_rate", "steps"}
    assert policy.training.stepper.name == "adam"
    stated = policy.with_training(optimizer="sgd", batch=2)
    assert json.loads(stated.to_json())["training"] == {
        "optimizer": "sgd",
        "learning_rate": None,
        "batch": 2,
        "steps": None,
    }
    assert UpdatePolicy.from_json(policy.to_json()) == policy
    assert UpdatePolicy.from_json(stated.to_json()).training.stepper.name == "sgd"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [{"name": "a", "weight": "all"}, {"name": "a", "bias": True}]}, "a is named twice"),
        ({"norms": [{"name": "n"}, {"name": "n"}]}, "n is named twice"),
        ({"sign_masks": ["s", "s"]}, "s is named twice"),
        ({"parameters": ["p", "p"]}, "p is named twice"),
        ({"layers": [{"name": "fc", "weight": "none"}]}, "the head, fc, always trains"),
        ({"input_shape": [3, 0, 8]}, "input_shape"),
        ({"input_shape": [3, 10**6, 8]}, "input_shape"),
        ({"input_shape": [3, 8, 8, 8, 8]}, "input_shape"),
        ({"layers": [{"name": str(n)} for n in range(10_001)]}, "layers"),
        ({"training": {"batch": 2**62}}, "batch"),
        ({"training": {"steps": 2**62}}, "steps"),
        ({"training": {"learning_rate": 1e308}}, "learning_rate"),
    ],
)
def test_what_no_network_can_train_is_refused(changes, message):
    text = edited(lambda content: (content.pop("hash", None), content.update(changes)))
    with pytest.raises(InputError, match=message):
        UpdatePolicy.from_json(text)


@pytest.mark.parametrize("shape", [(), (3,), (3, 32), (3, 32, 64), (1, 32, 32), (3, 32, 32, 1)])
def test_images_are_square_and_of_three_channels(shape):
    policy = UpdatePolicy(backbone="net", input_shape=shape, head="fc")
    with pytest.raises(InputError, match="input_shape: must be 3 channels of square images"):
        _ = policy.side


def test_lite_residual_modules_are_of_their_blocks(mobilenet, mobilenet_trace):
    policy = methods.tinytl(mobilenet_trace, "L")
    UpdateTable.of(mobilenet_trace, [policy])
    first, *others = policy.lite_residuals
    for change in ({"in_channels": 7}, {"out_channels": 65_536}, {"stride": 64}, {"kernel": 2}):
        odd = policy.model_copy(update={"lite_residuals": (first.model_copy(update=change), *others)})
        with pytest.raises(InputError, match=f"the lite residual module of {first.block} must be"):
            UpdateTable.of(mobilenet_trace, [odd])
        if {"in_channels", "out_channels"} & change.keys():
            with pytest.raises(InputError, match=f"the lite residual module of {first.block} is for"):
                odd.apply(mobilenet)
