"""Conformance suites for what packages add to TinySearch, to be run by pytest.

Each suite is a class of tests. A package's test file has a class that inherits from it and says by a fixture what is to
be tested:

    import pytest
    from tinysearch.testing import SamplerSuite

    class TestMySampler(SamplerSuite):
        @pytest.fixture
        def factory(self):
            return MySampler

The things that are built in pass the same suites.
"""

import pytest

_SUITES = ("backbones", "datasets", "devices", "exporters", "methods", "optimizers", "proxies", "samplers", "screens")
# Before they are imported, so that a failed assertion shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))

from .backbones import BackboneSuite  # noqa: E402
from .datasets import DatasetSuite  # noqa: E402
from .devices import DeviceSuite  # noqa: E402
from .exporters import ExporterSuite  # noqa: E402
from .methods import MethodSuite  # noqa: E402
from .optimizers import OptimizerSuite  # noqa: E402
from .proxies import ProxySuite  # noqa: E402
from .samplers import SamplerSuite  # noqa: E402
from .screens import ScreenSuite  # noqa: E402

__all__ = [
    "BackboneSuite",
    "DatasetSuite",
    "DeviceSuite",
    "ExporterSuite",
    "MethodSuite",
    "OptimizerSuite",
    "ProxySuite",
    "SamplerSuite",
    "ScreenSuite",
]
