"""The bundled profiles pass the suite that others are held to."""

import pytest

from tinysearch.devices.profile import DeviceProfile, list_devices, load_device
from tinysearch.testing import DeviceSuite


class TestBundled(DeviceSuite):
    @pytest.fixture(params=list_devices())
    def profile(self, request: pytest.FixtureRequest) -> DeviceProfile:
        return load_device(request.param)
