"""Bytes that a device stores for good: the network, and the program."""

from ..spaces.table import UpdateTable
from .profile import DeviceProfile
from .step.columns import Ints, present_sum


def flash_bytes(table: UpdateTable, profile: DeviceProfile) -> Ints:
    """Bytes stored, (N,): every parameter once, trained ones by their first values, and the program.

    On an arena device weights are stored in the frozen type and biases in 4 bytes, the running statistics folded
    into scale and shift. On an eager one parameters and running statistics are a file in 4 bytes each.
    """
    rows = table.trace.rows
    weight = profile.memory.dtypes.frozen
    if profile.memory.kind == "eager":
        stored = [weight * (layer.params + layer.running_statistics) for layer in rows]
    else:
        stored = [
            4 * layer.params if layer.kind == "norm" else weight * layer.weights + 4 * layer.biases for layer in rows
        ]
    return present_sum(table, stored) + profile.flash.code.value
