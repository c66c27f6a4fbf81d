"""The built-in screens pass the suite that others are held to."""

import pytest

from tinysearch.search.screens import SCREENS, Screen
from tinysearch.testing import ScreenSuite


class TestBuiltIn(ScreenSuite):
    @pytest.fixture(params=["tangent", "fisher", "sign-alignment", "count"])
    def screen(self, request: pytest.FixtureRequest) -> Screen:
        return SCREENS.load(request.param)
