"""What an accounting is, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.units import format_bytes
from ...spaces.table import UpdateTable
from ..step.saved import Kept, find_kept

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Account:
    """What N policies cost by an accounting.

    Attributes:
        table: The policies as they were counted, over the R rows of their trace: an accounting may see a policy
            otherwise than it was given, as TinyTL's, which puts its modules beside every block.
        stored: Bytes stored for the backward pass by each row, for the whole batch, (N, R).
        total: The memory that the paper prints, in bytes, (N,).
        parts: What the paper prints besides, by name, each (N,). Names end in `_bytes` for bytes, `_macs` or
            `_flops` for work; others are counts. What is for one sample says so.
        macs: Multiply-accumulates of the batch, where the paper counts them, (N,).
        peak_row: The row at which the total is reached, where the accounting has a schedule, (N,).
    """

    table: UpdateTable
    stored: Ints
    total: Ints
    parts: Mapping[str, Ints]
    macs: Ints | None = None
    peak_row: Ints | None = None


def as_given(table: UpdateTable) -> UpdateTable:
    """The policies as they are."""
    return table


@dataclass(frozen=True, slots=True)
class Accounting:
    """A named set of counting rules.

    An accounting without `count` is that of a step on a device: its peak is the largest sum of what lives at a moment.

    Attributes:
        name: Its name.
        summary: What it counts, in a line.
        source: Where the rules are published.
        caveat: What to beware of when its numbers are read.
        unit: The unit that memory is printed in; empty for the one that fits a number best.
        unit_bytes: Bytes of that unit.
        see: The policies as the accounting sees them.
        keep: What they keep for the backward pass, from N policies, the batch and the bytes of an element.
        count: A paper's own memory and work, from N policies and the samples of a step.
    """

    name: str
    summary: str
    source: str
    caveat: str = ""
    unit: str = ""
    unit_bytes: int = 1
    see: Callable[[UpdateTable], UpdateTable] = as_given
    keep: Callable[[UpdateTable, int, int], Kept] = find_kept
    count: Callable[[UpdateTable, int], Account] | None = None

    def format(self, value: float) -> str:
        """Bytes in the accounting's unit."""
        return f"{value / self.unit_bytes:.3f} {self.unit}" if self.unit else format_bytes(value)


def forward_bytes(table: UpdateTable, element: int = 4) -> Ints:
    """What a row needs while it runs forward, for one sample, (R,): input + output // groups of a conv, else its input.

    Both TinyTL's and TinyTrain's inference memory is the largest of these; a conv computes one group at a time. Rows
    that are neither conv, linear, norm nor activation count nothing.
    """
    sizes = []
    for layer in table.trace.rows:
        if layer.kind in ("conv", "linear"):
            sizes.append(element * layer.in_elements + element * layer.out_elements // layer.groups)
        else:
            sizes.append(element * layer.in_elements if layer.kind in ("norm", "act") else 0)
    return np.array(sizes, np.int64)


def input_bytes(table: UpdateTable, element: int = 4) -> Ints:
    """Bytes of the input that a conv or linear stores for its weight, for one sample, (N, R).

    Papers store the whole input of a weight that trains; of a weight that trains for some input channels, which none
    but the sparse-update study knows, those channels count.
    """
    rows = table.trace.rows
    per_channel = [x.in_elements // x.in_channels if x.kind in ("conv", "linear") else 0 for x in rows]
    result: Ints = table.inputs * (element * np.array(per_channel, np.int64))
    return result


def trained_and_frozen(table: UpdateTable) -> tuple[Ints, Ints]:
    """Parameters that train and that do not, each (N,); affine parameters of norms count, running statistics do not."""
    trained: Ints = (table.trained_params * table.present).sum(1)
    everything: Ints = (table.present * np.array([layer.params for layer in table.trace.rows], np.int64)).sum(1)
    return trained, everything - trained
