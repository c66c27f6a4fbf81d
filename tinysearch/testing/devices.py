"""What every device profile must do."""

import numpy as np
import pytest

from ..devices.costs import Costs, cost_table
from ..devices.profile import DeviceProfile, parse_profile
from ..devices.profile.writer import write_profile
from ..spaces import methods
from ..spaces.table import UpdateTable
from .networks import SmallNet, traced


class DeviceSuite:
    """Tests of a profile; the fixture `profile` gives it, loaded."""

    @pytest.fixture
    def profile(self) -> DeviceProfile:
        """The profile."""
        raise NotImplementedError("give the profile by a fixture of this name")

    @staticmethod
    def _costs(profile: DeviceProfile, batch: int | None = None) -> Costs:
        """Of training the head alone, and of training everything."""
        found = traced(SmallNet)
        return cost_table(UpdateTable.of(found, [methods.last(found), methods.full(found)]), profile, batch=batch)

    def test_what_is_written_reads_back_equal(self, profile: DeviceProfile) -> None:
        """To the last bit, whatever it took from another profile written out."""
        assert parse_profile(write_profile(profile), "written") == profile

    def test_costs_are_positive_and_finite(self, profile: DeviceProfile) -> None:
        """Of the smallest policy too."""
        costs = self._costs(profile)
        for values in (costs.peak_bytes, costs.macs, costs.latency_s, costs.energy_j):
            assert bool(np.isfinite(values).all())
            assert bool((values > 0).all())

    def test_training_more_costs_no_less(self, profile: DeviceProfile) -> None:
        """Everything is at least as much as the head."""
        costs = self._costs(profile)
        for values in (costs.peak_bytes, costs.saved_bytes, costs.macs, costs.latency_s, costs.energy_j):
            assert values[1] >= values[0]
        assert costs.latency_s[1] > costs.latency_s[0]

    def test_a_larger_batch_costs_more(self, profile: DeviceProfile) -> None:
        """Work and time grow with the samples of a step, and what is kept where they are there at once."""
        one, four = self._costs(profile, 1), self._costs(profile, 4)
        assert bool((four.peak_bytes >= one.peak_bytes).all())
        for more, less in ((four.macs, one.macs), (four.latency_s, one.latency_s)):
            assert more[1] > less[1]
        if profile.memory.schedule.one_by_one:
            assert four.saved_bytes[1] == one.saved_bytes[1]
        else:
            assert four.saved_bytes[1] > one.saved_bytes[1]

    def test_the_budget_is_within_the_memory(self, profile: DeviceProfile) -> None:
        """A step may use what is there, and a small network can be trained in it."""
        assert profile.memory.budget.value <= profile.memory.capacity.value
        assert int(self._costs(profile).peak_bytes[0]) <= profile.memory.budget.value
