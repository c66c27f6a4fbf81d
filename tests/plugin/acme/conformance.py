"""Acme's own tests: each thing passes its suite; `python -m pytest conformance.py`."""

import pytest
from acme_tinysearch.backbone import build
from acme_tinysearch.dataset import STRIPES
from acme_tinysearch.method import TOP
from acme_tinysearch.optimizer import RMSPROP
from acme_tinysearch.proxy import KIND
from acme_tinysearch.sampler import Walk
from acme_tinysearch.screen import depth

import tinysearch as ts
from tinysearch.testing import (
    BackboneSuite,
    DatasetSuite,
    DeviceSuite,
    ExporterSuite,
    MethodSuite,
    OptimizerSuite,
    ProxySuite,
    SamplerSuite,
    ScreenSuite,
)


class TestSampler(SamplerSuite):
    @pytest.fixture
    def factory(self):
        return Walk


class TestScreen(ScreenSuite):
    @pytest.fixture
    def screen(self):
        return depth


class TestProxy(ProxySuite):
    @pytest.fixture
    def kind(self):
        return KIND


class TestOptimizer(OptimizerSuite):
    @pytest.fixture
    def optimizer(self):
        return RMSPROP


class TestMethod(MethodSuite):
    @pytest.fixture
    def method(self):
        return TOP


class TestBackbone(BackboneSuite):
    @pytest.fixture
    def builder(self):
        return build


class TestDataset(DatasetSuite):
    @pytest.fixture
    def dataset(self):
        return STRIPES.load(None, False)


class TestDevice(DeviceSuite):
    @pytest.fixture
    def profile(self):
        return ts.load_device("acme-board")


class TestExporter(ExporterSuite):
    @pytest.fixture
    def name(self):
        return "acme-json"
