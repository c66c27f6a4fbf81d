"""Peak training memory: what must fit, for N policies at once.

The peak is a maximum over the operations of one training step (`walk`), not a sum of worst cases:

- A tensor lives from the operation that first writes it to the last that touches it. It takes the place of another
  where the operation that makes it may run in place and the other dies there.
- **Weights**: eager, all parameters and running statistics lie in RAM, with a copy of the channels that train of a
  partly trained weight; arena, only what trains does, with the statistics that it updates, and what is frozen is read
  from flash.
- **Optimizer state** is as large as what trains, for Adam twice, for SGD with momentum once.
- **The batch of images** stays for the whole step (eager), or is an activation like others (arena).
- **In place, alignment and scratch** (arena): `setting`.

The framework's own baseline is no part of the peak. On an arena the peak is what no arrangement of the tensors can go
below; `plan` arranges them, and says how much more that takes. `compiler` lists the same step tensor by tensor for one
policy, and finds the lifetimes without masks.
"""

from collections.abc import Sequence

import numpy as np

from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from ..profile import DeviceProfile
from .columns import Amount, Ints, Mask, both, either, times, without
from .saved import Kept, find_kept
from .setting import StepSetting
from .tensors import Key, Kind, StepTensors, Touches
from .walk import walk


def peak_bytes(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> Ints:
    """Peak training memory, (N,), by the rules of this module.

    Args:
        table: N policies.
        profile: The device and runtime.
        batch: Samples of one step.
        optimizer: adam, sgd or sgd-momentum.

    Raises:
        InputError: The optimizer is unknown.
    """
    setting = StepSetting(table.trace, profile, batch, optimizer)
    return find_peak(table, find_kept(table, setting.samples, profile.memory.dtypes.activation), setting)


def find_peak(table: UpdateTable, kept: Kept, setting: StepSetting) -> Ints:
    """As `peak_bytes`, from what is kept."""
    tensors = StepTensors(table, kept, setting)
    operations = list(walk(tensors))
    live = _Live(tensors)
    # What is there before a step and after it neither begins nor ends in it.
    persistent = dict(tensors.persistent())
    for key, mask in persistent.items():
        live.begin(key, mask, whole=True)
    images = (Kind.ACTIVATION, INPUT)
    held = tensors.ways.images
    live.begin(images, held, whole=True)
    born: Touches = {**dict.fromkeys(persistent, True), images: held}
    gone: Touches = dict.fromkeys(persistent, True)
    births = [_unknown((operation.writes,), born) for operation in operations]
    deaths = [_unknown((operation.reads, operation.writes), gone) for operation in reversed(operations)]
    for operation, made, dying in zip(operations, births, reversed(deaths), strict=True):
        shares: Mask = False
        shrinks = 0
        for new, old in operation.in_place:
            # What is overwritten by something smaller is whole until then.
            pair = without(both(made.get(new, False), dying.get(old, False)), shares)
            if pair is not False:
                live.end(old, pair, whole=pair is gone[old])
                dying[old] = without(dying[old], pair)
                shares = either(shares, pair)
                shrinks = max(shrinks, setting.activation[old[1]] - setting.activation[new[1]])
        for key, mask in made.items():
            live.begin(key, mask, whole=mask is born[key])
        if made or not isinstance(operation.scratch, int) or operation.scratch:  # else no more lives than before
            live.note(operation.scratch + times(shares, operation.channel + shrinks))
        for key, mask in dying.items():
            live.end(key, mask, whole=mask is gone[key])
    return live.peak()


def _unknown(touched: Sequence[Touches], known: Touches) -> Touches:
    """Where tensors are touched that are not known yet; there they are known from then on."""
    found: Touches = {}
    for touches in touched:
        for key, mask in touches.items():
            before = known.get(key, False)
            if before is True or mask is False:
                continue
            if before is False:
                found[key] = known[key] = mask
                continue
            new = without(mask, before)
            if new is True or (new is not False and np.count_nonzero(new)):
                found[key] = either(found.get(key, False), new)
                known[key] = either(before, new)
    return found


class _Live:
    """A running sum of live bytes and its maximum.

    What all policies share is a number. What depends on the policy waits until a moment is noted, since much of it
    cancels: a tensor dies where another of its size begins. Then it is added to an array.
    """

    def __init__(self, tensors: StepTensors) -> None:
        self._size = tensors.size
        self._shared = 0
        self._each, self._peak, self._now = np.zeros((3, len(tensors.table)), np.int64)
        self._waiting: dict[int, tuple[Mask, int]] = {}  # by the mask's identity
        self._most: int | None = None  # of the shared part since the array last changed

    def begin(self, key: Key, mask: Mask, *, whole: bool) -> None:
        """A tensor is there from now on, where the mask holds; `whole` says that this is wherever it begins at all."""
        size = self._size(key)
        if isinstance(size, int):
            self._change(mask, size)
        else:
            self._settle()
            # A size of many is 0 where the tensor is not: no mask is needed for all of it.
            self._each += size if whole else times(mask, size)

    def end(self, key: Key, mask: Mask, *, whole: bool) -> None:
        """Likewise, a tensor is gone from now on."""
        size = self._size(key)
        if isinstance(size, int):
            self._change(mask, -size)
        else:
            self._settle()
            self._each -= size if whole else times(mask, size)

    def note(self, more: Amount) -> None:
        """Note the present sum, with bytes that live for this moment alone."""
        for mask, amount in self._waiting.values():
            if amount:
                self._settle()
                self._each += times(mask, amount)
        self._waiting.clear()
        if isinstance(more, int):
            now = self._shared + more
            self._most = now if self._most is None else max(self._most, now)
        else:
            np.add(self._each, more, out=self._now)
            self._now += self._shared
            np.maximum(self._peak, self._now, out=self._peak)

    def peak(self) -> Ints:
        """The largest sum so far of each policy, (N,)."""
        self._settle()
        return self._peak

    def _change(self, mask: Mask, amount: int) -> None:
        if mask is True:
            self._shared += amount
        elif mask is not False:
            _, waiting = self._waiting.get(id(mask), (mask, 0))
            self._waiting[id(mask)] = mask, waiting + amount

    def _settle(self) -> None:
        if self._most is not None:
            np.add(self._each, self._most, out=self._now)
            np.maximum(self._peak, self._now, out=self._peak)
            self._most = None
