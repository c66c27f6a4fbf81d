"""The energy of a training step: power times time.

Power depends little on what runs (MLPerf Tiny: 153 to 166 mW on one microcontroller for four very different
networks), so one active power per profile is used. Tables of picojoules per multiply-accumulate miss whole-chip
figures by three to four orders of magnitude and are not.
"""

import numpy as np
import numpy.typing as npt

from ..profile import DeviceProfile

Floats = npt.NDArray[np.float64]


def step_joules(seconds: Floats, profile: DeviceProfile) -> Floats:
    """Energy drawn during steps of the given times, idle power included: what a battery or meter sees."""
    return np.asarray(seconds * profile.power.active.value)


def extra_joules(seconds: Floats, profile: DeviceProfile) -> Floats:
    """Energy that the steps draw above an idle device's."""
    return np.asarray(seconds * (profile.power.active.value - profile.power.idle.value))
