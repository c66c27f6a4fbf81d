"""The built-in proxy passes the suite that others are held to."""

from collections.abc import Mapping
from typing import Any

import pytest

from tinysearch.search.proxies import PROXIES, ProxyKind
from tinysearch.testing import ProxySuite


class TestBuiltIn(ProxySuite):
    @pytest.fixture
    def kind(self) -> ProxyKind:
        return PROXIES.load("few-shot")

    @pytest.fixture
    def stated(self) -> Mapping[str, Any]:
        return {"shot": 5, "queries": 80, "steps": 3}
