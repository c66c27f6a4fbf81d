"""From one policy to the program of its training step.

The operations are those of `walk`, for one policy. A tensor lives from the first operation that touches it to the last,
read off the finished list; `peak` finds the same of N policies with masks.
"""

from collections.abc import Mapping, Sequence

from ...core.errors import InputError
from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from ..profile import DeviceProfile
from .columns import Amount
from .program import Operation, Program, Tensor
from .saved import Kept, find_kept
from .setting import StepSetting
from .tensors import Key, Kind, StepTensors, Touches
from .walk import MaskedOperation, walk

#: Numbers of the first operation that has a tensor, and of the last.
Life = tuple[int, int]


def compile_step(
    table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str, kept: Kept | None = None
) -> Program:
    """The training step of one policy.

    Args:
        table: One policy.
        profile: The device and runtime.
        batch: Samples of the step.
        optimizer: adam, sgd or sgd-momentum.
        kept: What is kept for the backward pass; without it what an applied policy keeps.

    Raises:
        InputError: The table has another number of policies, or the optimizer is unknown.
    """
    if len(table) != 1:
        raise InputError(f"a program is that of one policy, not of {len(table)}")
    setting = StepSetting(table.trace, profile, batch, optimizer)
    kept = kept or find_kept(table, setting.samples, profile.memory.dtypes.activation)
    tensors = StepTensors(table, kept, setting)
    # Of one policy every mask is True or False.
    moves = [move for move in walk(tensors) if move.runs]
    touches = [(_touched(tensors, move.reads), _touched(tensors, move.writes)) for move in moves]
    lives = _lives(tensors, touches)
    shares = {number: pair for number, move in enumerate(moves) if (pair := _shared(move, number, lives))}
    buffers = _buffers(lives, dict(shares.values()))
    numbers = {key: number for number, key in enumerate(lives)}
    found = [Tensor(*key, _bytes(tensors.size(key)), *lives[key], buffers[key]) for key in lives]
    count = len(set(buffers.values()))
    operations = []
    for number, (move, (reads, writes)) in enumerate(zip(moves, touches, strict=True)):
        written = [numbers[key] for key in writes]
        scratch = _bytes(move.scratch) + (move.channel if number in shares else 0)
        if scratch:
            written.append(len(found))
            found.append(Tensor(Kind.SCRATCH, move.row, scratch, number, number, count))
            count += 1
        reading = tuple(numbers[key] for key in reads)
        operations.append(Operation(move.phase, move.row, reading, tuple(written), move.rows or (move.row,)))
    return Program(setting, tuple(operations), tuple(found))


def _bytes(amount: Amount) -> int:
    return amount if isinstance(amount, int) else int(amount[0])


def _touched(tensors: StepTensors, touches: Touches) -> list[Key]:
    """The tensors that an operation touches; those without an element are none."""
    return [key for key, touched in touches.items() if touched and _bytes(tensors.size(key))]


def _lives(tensors: StepTensors, touches: Sequence[tuple[list[Key], list[Key]]]) -> dict[Key, Life]:
    """How long each tensor lives."""
    last = len(touches) - 1
    lives: dict[Key, Life] = {}
    for number, (reads, writes) in enumerate(touches):
        for key in (*reads, *writes):
            first, _ = lives.get(key, (number, number))
            lives[key] = first, number
    images = (Kind.ACTIVATION, INPUT)
    if images in lives:  # else they are asked for line by line
        lives[images] = 0, lives[images][1]
    for key in _touched(tensors, dict(tensors.persistent())):
        lives[key] = 0, last
    return lives


def _shared(move: MaskedOperation, number: int, lives: Mapping[Key, Life]) -> tuple[Key, Key] | None:
    """The tensor that an operation makes in the place of one that dies in it, and that one."""
    for made, dying in move.in_place:
        if made in lives and dying in lives and lives[made][0] == number == lives[dying][1]:
            return made, dying
    return None


def _buffers(lives: Mapping[Key, Life], over: Mapping[Key, Key]) -> dict[Key, int]:
    """By tensor, the number of the memory that it lies in; `over` says which tensor takes the place of which."""
    buffers: dict[Key, int] = {}
    count = 0
    for key in sorted(lives, key=lambda key: lives[key]):
        if key in over:
            buffers[key] = buffers[over[key]]
        else:
            buffers[key] = count
            count += 1
    return buffers
