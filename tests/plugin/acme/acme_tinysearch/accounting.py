"""An accounting: Acme counts a byte for each trained parameter, and no more."""

import numpy as np

from tinysearch.devices.accountings import Account, Accounting
from tinysearch.spaces.table import UpdateTable


def count(table: UpdateTable, batch: int) -> Account:
    """A byte for each trained parameter, whatever the batch."""
    trained = table.trained_params.sum(1)
    return Account(table, np.zeros_like(table.inputs), trained, {"trainable_parameters": trained})


COUNTS = Accounting(
    name="acme-bytes",
    summary="a byte for each trained parameter",
    source="Acme",
    unit="KiB",
    unit_bytes=1024,
    count=count,
)
