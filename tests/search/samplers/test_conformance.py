"""The built-in samplers pass the suite that others are held to."""

from functools import partial

import pytest

from tinysearch.search.samplers import SAMPLERS, SamplerFactory, auto
from tinysearch.testing import SamplerSuite


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen few policies: every test makes samplers anew."""
    monkeypatch.setattr(auto, "screen", partial(auto.screen, budget=1000))


class TestBuiltIn(SamplerSuite):
    @pytest.fixture(params=list(SAMPLERS))
    def factory(self, request: pytest.FixtureRequest) -> SamplerFactory:
        return SAMPLERS.load(request.param)
