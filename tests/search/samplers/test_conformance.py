"""The built-in samplers pass the suite that others are held to."""

from functools import partial

import pytest

from tinysearch.search.samplers import SAMPLERS, SamplerFactory, auto, exact
from tinysearch.testing import SamplerSuite


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen few policies: every test makes samplers anew."""
    for sampler in (auto, exact):
        monkeypatch.setattr(sampler, "screen", partial(sampler.screen, budget=1000))


class TestBuiltIn(SamplerSuite):
    # Optuna's Gaussian process takes seconds for each answer; test_optuna.py asks it a few times.
    @pytest.fixture(params=[name for name in SAMPLERS if name != "gp"])
    def factory(self, request: pytest.FixtureRequest) -> SamplerFactory:
        return SAMPLERS.load(request.param)
