"""The built-in samplers pass the suite that others are held to."""

import pytest

from tinysearch.search.samplers import SAMPLERS, SamplerFactory
from tinysearch.testing import SamplerSuite


class TestBuiltIn(SamplerSuite):
    @pytest.fixture(params=["nsga2", "tpe", "random"])
    def factory(self, request: pytest.FixtureRequest) -> SamplerFactory:
        return SAMPLERS.load(request.param)
