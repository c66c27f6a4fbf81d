"""Methods by name: the built-in ones pass the suite, and one that fails disturbs no other."""

from collections.abc import Callable, Iterator

import pytest
import torch

from tinysearch.core.errors import InputError
from tinysearch.spaces import methods
from tinysearch.spaces.methods import METHODS, Method
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.trace import Trace
from tinysearch.testing import MethodSuite
from tinysearch.testing.networks import SmallNet, images, make, traced

BUILT_IN = ["last", "bias", "norm+last", "full", "tinytl", "mobiletl", "sparse-update", "last-conv", "tinytrain"]
Added = Callable[..., None]


class TestBuiltIn(MethodSuite):
    @pytest.fixture(params=BUILT_IN)
    def method(self, request: pytest.FixtureRequest) -> Method:
        return METHODS.load(request.param)

    def test_it_has_policies_for_an_ordinary_network(self, method: Method) -> None:
        if method.name != "sparse-update":  # schemes are published for three networks
            super().test_it_has_policies_for_an_ordinary_network(method)


@pytest.fixture
def found() -> Trace:
    return traced(SmallNet)


@pytest.fixture
def added() -> Iterator[Added]:
    """Adds methods, and takes them away again."""
    names = []

    def add(name: str, policies: Callable[[Trace], list[UpdatePolicy]]) -> None:
        METHODS.add(name, Method(name, "one of a test", policies))
        names.append(name)

    yield add
    for name in names:
        METHODS.remove(name)


def test_names_are_of_every_method_that_needs_no_data(found: Trace) -> None:
    named = methods.named(found)
    assert list(named) == [
        "last", "bias", "norm+last", "full", "tinytl-L", "tinytl-L+B", "mobiletl-1", "mobiletl-2", "mobiletl-3"
    ]  # fmt: skip
    assert list(methods.named(found, seeds=False)) == [*named, "last-conv"]
    assert [name for name, method in METHODS.loaded().items() if method.needs_data] == ["tinytrain"]
    with_data = methods.named_with_data(found, make(SmallNet), images(8), torch.arange(8) % 4)
    assert with_data == {"tinytrain": methods.tinytrain(found, make(SmallNet), images(8), torch.arange(8) % 4)}


def test_a_policy_is_found_by_name(found: Trace) -> None:
    assert methods.find(found, "last-conv") == methods.last_conv(found)
    with pytest.raises(InputError, match=r"no method named 'tinytrain' for SmallNet: there are last, .*last-conv"):
        methods.find(found, "tinytrain")


def test_a_method_that_is_added_is_among_the_others(found: Trace, added: Added) -> None:
    mine = methods.bias(found).model_copy(update={"method": "mine-1"})
    added("mine", lambda trace: [mine])
    assert methods.named(found)["mine-1"] == methods.find(found, "mine-1") == mine


WRONG: dict[str, tuple[Callable[[Trace], list[UpdatePolicy]], str]] = {
    "fails": (lambda trace: [1 // 0], "ZeroDivisionError"),  # type: ignore[list-item]
    "gives a name that is taken": (lambda trace: [methods.bias(trace)], "the name 'bias', which is taken"),
    "gives no name": (lambda trace: [methods.bias(trace).model_copy(update={"method": None})], "no name"),
    "is of another network": (
        lambda trace: [methods.bias(trace).model_copy(update={"method": "x", "backbone": "other"})],
        "is for other at",
    ),
    "gives no policies": (lambda trace: [3], "AttributeError"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("case", WRONG)
def test_a_method_that_is_wrong_is_left_out_with_a_warning(case: str, found: Trace, added: Added) -> None:
    before = methods.named(found)
    policies, said = WRONG[case]
    added("wrong", policies)
    with pytest.warns(UserWarning, match="the method 'wrong' of this program is left out for SmallNet") as caught:
        assert methods.named(found) == before
    assert said in str(caught[0].message)


def test_a_method_needs_data_or_not() -> None:
    with pytest.raises(ValueError, match="either"):
        Method("x", "neither")
