"""The built-in backbones pass the suite that others are held to."""

from collections.abc import Callable
from functools import partial

import pytest
from torch import nn

from tinysearch.spaces.backbones import load_backbone
from tinysearch.testing import BackboneSuite

#: One of each kind of network; the others differ in widths alone.
KINDS = ["mobilenetv2-w0.35", "mobilenetv2-w0.35-tf", "mobilenetv3-small", "proxylessnas-mobile", "mcunet-5fps"]


@pytest.mark.slow
class TestBuiltIn(BackboneSuite):
    @pytest.fixture(params=[*KINDS, "proxylessnas-w0.3-mix"])
    def builder(self, request: pytest.FixtureRequest) -> Callable[[int], nn.Module]:
        return partial(_build, request.param)

    @pytest.fixture
    def size(self) -> int:
        return 32


def _build(name: str, classes: int) -> nn.Module:
    return load_backbone(name, num_classes=classes)


@pytest.mark.slow
@pytest.mark.usefixtures("libraries")
class TestOfLibraries(BackboneSuite):
    @pytest.fixture(params=["timm:test_resnet", "timm:test_efficientnet", "torchvision:mnasnet0_5"])
    def builder(self, request: pytest.FixtureRequest) -> Callable[[int], nn.Module]:
        return partial(_build, request.param)

    @pytest.fixture
    def size(self) -> int:
        return 48
