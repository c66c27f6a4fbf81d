"""Device profiles: one YAML file for one device and runtime, each number with its source or marked as assumed."""

from .model import DeviceProfile
from .reader import ALIASES, DEVICES, list_devices, load_device, parse_profile

__all__ = ["ALIASES", "DEVICES", "DeviceProfile", "list_devices", "load_device", "parse_profile"]
