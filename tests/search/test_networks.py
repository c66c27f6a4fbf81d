"""Which networks a run is about: lists of backbones and sizes, their weights, and those that do not fit."""

from typing import Any

import numpy as np
import pytest

from tinysearch.core.errors import BudgetError, InputError, MissingDataError
from tinysearch.search.networks import MOST, load_networks, requests_of, weights_of
from tinysearch.search.request import Request

TWO = ("tiny_net:build", "tiny_net:one_conv")


def requests(backbone: Any = TWO, input_size: Any = (16, 24), weights: Any = "none", **others: Any) -> list[Request]:
    return requests_of(backbone, input_size, weights, **others)


@pytest.mark.parametrize(
    ("backbone", "input_size"),
    [(TWO, (16, 24)), (",".join(TWO), "16,24"), (" , ".join(TWO), " 16, 24"), (list(TWO), [16, 24])],
    ids=["tuples", "texts", "spaces", "lists"],
)
def test_every_backbone_is_asked_for_at_every_size(backbone: Any, input_size: Any) -> None:
    asked = requests(backbone, input_size)
    assert [(each.backbone, each.input_size) for each in asked] == [
        (TWO[0], 16),
        (TWO[0], 24),
        (TWO[1], 16),
        (TWO[1], 24),
    ]
    assert {each.weights for each in asked} == {"none"}


@pytest.mark.parametrize("one", [{"backbone": "a", "input_size": 96}, {"backbone": ["a"], "input_size": "96"}, {}])
def test_one_network_is_the_request_that_it_always_was(one: dict[str, Any]) -> None:
    (asked,) = requests_of(one.get("backbone"), one.get("input_size"), "a,b=c.pth", sampler="random", compare=True)
    plain = {"backbone": "a", "input_size": 96} if one else {}
    assert asked == Request.make(**plain, weights="a,b=c.pth", sampler="random", compare=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_size": "16,x"}, "input_size: 'x' is no whole number"),
        ({"input_size": "16,-24"}, "input_size: '-24' is no whole number"),
        ({"input_size": (16, 8)}, "input_size"),
        ({"input_size": (16, 24.5)}, "input_size"),
        ({"input_size": "16,,24"}, "input_size: there is an empty entry"),
        ({"input_size": ()}, "input_size: there is an empty entry"),
        ({"backbone": "a,"}, "backbone: there is an empty entry"),
        ({"backbone": ("a", 3)}, "backbone"),
        (
            {"input_size": tuple(range(16, 25))},
            f"2 backbones at 9 input sizes are 18 networks: a run has at most {MOST}",
        ),
        ({"sampler": "nsga2"}, "the sampler nsga2 searches one network, not 4: leave out sampler"),
        ({"compare": True}, "the published methods of 4 networks are too many: leave out compare"),
        ({"rescore": 1}, "what several networks found is not scored again: leave out rescore"),
        ({"trials": 3}, "raise trials to 4 or more"),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_names_the_option(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        requests(**changes)
    assert "\n" not in str(caught.value)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, {"a": None, "b:c": None}),
        ("none", {"a": "none", "b:c": "none"}),
        ("imagenet", {"a": "imagenet", "b:c": "imagenet"}),
        ("a=x.pth", {"a": "x.pth", "b:c": None}),
        ("a=x,y=z.pth,b:c=none", {"a": "x,y=z.pth", "b:c": "none"}),
        ({"b:c": "x.pth"}, {"a": None, "b:c": "x.pth"}),
    ],
)
def test_weights_are_told_apart_by_backbone(stated: Any, expected: dict[str, str | None]) -> None:
    assert weights_of(stated, ["a", "b:c", "a"]) == expected


def test_one_backbone_at_several_sizes_has_one_file() -> None:
    assert [each.weights for each in requests("a", (16, 24), "a=b.pth")] == ["a=b.pth", "a=b.pth"]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("x.pth", "which backbone is 'x.pth' for"),
        ("d=x.pth", "which backbone is 'x.pth' for"),
        ("b:c", "which backbone is 'b:c' for"),
        ({"d": "x.pth"}, "'d' is none of the backbones a, b:c"),
    ],
)
def test_a_file_for_nobody_knows_which_backbone_is_refused(stated: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        weights_of(stated, ["a", "b:c"])


# --- loading ---------------------------------------------------------------------------------------------------------


def test_all_networks_answer_the_same_images_and_are_measured_from_one_point() -> None:
    problems, left_out = load_networks(requests())
    assert left_out == []
    assert len({id(problem.dataset) for problem in problems}) == 1
    first, *others = (problem.episodes(1)[0] for problem in problems)
    for other in others:
        assert np.array_equal(other.query_indices, first.query_indices)
        assert np.array_equal(other.support_indices, first.support_indices)
    assert problems[0].episodes(1)[0] is problems[2].episodes(1)[0]  # of the same size
    costs = [problem.full_costs for problem in problems]
    assert len({tuple(problem.reference_point.items()) for problem in problems}) == 1
    assert problems[0].reference_point == {
        "accuracy": 0.1,
        "peak_bytes": float(max(cost.peak_bytes[0] for cost in costs)),
        "latency_s": float(max(cost.latency_s[0] for cost in costs)),
    }


def test_a_network_that_does_not_fit_is_left_out_with_a_line() -> None:
    problems, left_out = load_networks(requests(TWO[0], (16, 24, 48), max_memory="300KiB"))
    assert [problem.trace.input_shape[1] for problem in problems] == [16, 24]
    (line,) = left_out
    assert line.startswith("left out: nothing fits 300 KiB of peak memory on rpi4")
    assert "tiny_net:build at 48x48" in line


def test_where_none_fits_that_is_an_error() -> None:
    with pytest.raises(BudgetError, match=r"none of 4 networks fits; the first: nothing fits 10 KiB") as caught:
        load_networks(requests(max_memory="10KiB"))
    assert "raise --max-memory" in caught.value.told(lambda option: f"--{option.replace('_', '-')}")


@pytest.mark.parametrize(
    ("backbone", "input_size"),
    [(TWO[0], (16, 16)), ((TWO[0], TWO[0]), 16), (TWO[0], (None, 16)), (("mobilenetv2-w1.0", "mobilenetv2"), 32)],
)
def test_a_network_that_is_asked_for_twice_is_refused(backbone: Any, input_size: Any) -> None:
    with pytest.raises(InputError, match=r"px is asked for twice"):
        load_networks(requests(backbone, input_size))


def test_weights_that_are_missing_are_said_first() -> None:
    with pytest.raises(MissingDataError, match=r"gone\.pth"):
        load_networks(requests(weights={TWO[0]: "none", TWO[1]: "gone.pth"}))
    with pytest.raises(InputError, match=r"no weights are published for tiny_net:one_conv"):
        load_networks(requests(weights={TWO[0]: "none"}))
