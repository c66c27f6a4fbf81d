"""One class of limits, on arrays of costs and on members of a front."""

import numpy as np
import pytest

from tinysearch.core.errors import InputError
from tinysearch.core.metrics import LIMITED
from tinysearch.devices.costs import Costs
from tinysearch.results.limits import Limits


def costs(members):
    columns = ("saved_bytes", "peak_bytes", "flash_bytes", "macs", "latency_s", "energy_j")
    return Costs(**{name: np.array([getattr(member, name) for member in members]) for name in columns})


def test_every_limit_that_a_user_can_state_is_read_in_its_unit():
    limits = Limits.read(memory="256KiB", latency="800ms", energy="2J")
    assert limits == Limits(peak_bytes=262144, latency_s=0.8, energy_j=2.0)
    assert {metric.name: most for metric, most in limits.stated().items()} == {
        "peak_bytes": 262144,
        "latency_s": 0.8,
        "energy_j": 2.0,
    }
    assert Limits.read(**dict.fromkeys(LIMITED)) == Limits()
    assert Limits().stated() == {}


@pytest.mark.parametrize("wrong", [{"memory": "2 s"}, {"latency": -1}, {"energy": float("nan")}])
def test_what_is_no_limit_is_refused(wrong):
    with pytest.raises(InputError):
        Limits.read(**wrong)


@pytest.mark.parametrize("name", ["peak_bytes", "flash_bytes", "latency_s", "energy_j"])
def test_members_and_arrays_are_judged_alike(name, cloud, front):
    members = front(cloud(40)).members
    for most in sorted({getattr(member, name) for member in members}):
        limits = Limits(**{name: most})
        assert [limits.admit(member) for member in members] == (~limits.exceeded(costs(members))).tolist()


def test_an_unknown_cost_keeps_no_limit_but_no_limit_asks_for_it(trial, front):
    (member,) = front([trial(0, energy_j=None)]).members
    assert Limits(peak_bytes=1e9).admit(member)
    assert not Limits(energy_j=1e9).admit(member)
    assert Limits(energy_j=1e9).complaint([member]) == "a known step energy (the device states none)"


def test_on_an_arena_device_the_limit_on_memory_holds_the_planned_arena(trial, front):
    (member,) = front([trial(0, peak_bytes=1000, arena_bytes=1024)]).members
    assert (member.peak_bytes, member.arena_bytes) == (1000, 1024)
    planned = Costs(
        *(np.array([value]) for value in (10, 1000, 10, 10, 0.1, 0.1)), arena_bytes=np.array([1024], np.int64)
    )
    for most, admitted in ((1023, False), (1024, True)):
        limits = Limits.read(memory=most)
        assert limits.admit(member) is admitted
        assert limits.exceeded(planned).tolist() == [not admitted]
    assert "the least is 1 KiB" in Limits.read(memory=1).complaint([member])
