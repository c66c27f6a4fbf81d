from typing import Any

import pytest

from tinysearch.core.errors import InputError
from tinysearch.search.proxies.settings import FewShotSettings
from tinysearch.search.request import Request


def test_none_stands_for_the_default() -> None:
    names = Request.model_fields
    assert Request.make(**dict.fromkeys(names)) == Request()


def test_texts_are_read_and_numbers_are_in_base_units() -> None:
    texts = Request.make(max_memory="256KiB", max_latency="800ms", max_energy="2J", time_budget="2min")
    numbers = Request.make(max_memory=2**18, max_latency=0.8, max_energy=2, time_budget=120.0)
    assert texts == numbers
    assert (texts.max_memory, texts.max_latency, texts.max_energy, texts.time_budget) == (262144, 0.8, 2.0, 120.0)


def test_what_was_made_can_be_made_again_from_its_json() -> None:
    request = Request.make(max_latency="800ms", max_energy="5mJ", time_budget="1h", proxy={"shot": 3})
    assert Request.make(**request.model_dump(mode="json")) == request


def test_a_proxy_may_be_named() -> None:
    assert Request.make(proxy="few-shot").proxy == FewShotSettings()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trials": 0}, "trials"),
        ({"trials": "many"}, "trials"),
        ({"seed": -1}, "seed"),
        ({"input_size": 8}, "input_size"),
        ({"batch": 0}, "batch"),
        ({"sampler": "grid"}, "sampler: there are auto, exact, nsga2, nsga3, gp, tpe, random, not 'grid'"),
        ({"proxy": "oracle"}, "no proxy named 'oracle': there are few-shot"),
        ({"proxy": {"name": ["few-shot"]}}, "no proxy named"),
        ({"proxy": 5}, "proxy: "),
        ({"proxy": {"shot": 0}}, "proxy.shot"),
        ({"proxy": {"shots": 5}}, "proxy.shots"),
        ({"max_memory": "1 parsec"}, "max_memory: '1 parsec' has an unknown unit"),
        ({"max_memory": "0B"}, "max_memory"),
        ({"max_latency": "2"}, "max_latency: '2' has no unit"),
        ({"max_energy": "-2J"}, "out of range"),
        ({"max_latency": float("inf")}, "max_latency"),
        ({"time_budget": "0s"}, "time_budget"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.make(**values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
