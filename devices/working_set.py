"""What the process of an eager runtime grows by in training, as the operating system sees it."""

import numpy as np
import numpy.typing as npt

from ..spaces.table import UpdateTable
from .profile import DeviceProfile
from .step.peak import peak_bytes
from .step.saved import saved_bytes

Floats = npt.NDArray[np.float64]


def working_set_bytes(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Floats | None:
    """What a process grows by when it makes a model and trains it, (N,); None where no one measured that."""
    model = profile.memory.working_set
    if model is None:
        return None
    parts = working_set_parts(table, profile, batch, optimizer)
    result: Floats = parts @ np.array([model.peak, model.saved, model.largest, model.constant])
    return result


def working_set_parts(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Floats:
    """What `WorkingSet` has factors for, (N, 4): bytes of peak, saved activations and largest activation, and 1."""
    element = profile.memory.dtypes.activation
    peak = peak_bytes(table, profile, batch, optimizer)
    saved = saved_bytes(table, batch, element).sum(1)
    sizes = np.array([layer.bytes(batch, element) for layer in table.trace.rows])
    largest = (table.present * sizes).max(1)
    return np.column_stack((peak, saved, largest, np.ones(len(table)))).astype(np.float64)
