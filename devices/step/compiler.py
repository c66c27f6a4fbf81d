"""From one policy to the program of its training step.

Every kernel is written down with the tensors that it reads and writes; a tensor lives from its first use to its last,
and takes the place of another where the other dies in the step that makes it and `devices.schedule` allows it.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from ...core.errors import InputError
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from ..profile import DeviceProfile
from .program import PERSISTENT, Key, Kind, Phase, Program, Step, Tensor
from .saved import Kept, find_kept
from .sizes import Schedule


def compile_step(
    table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str, kept: Kept | None = None
) -> Program:
    """The training step of one policy, by the rules of `devices.memory`.

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
    kept = kept or find_kept(table, batch, profile.memory.dtypes.activation)
    return _Compiler(table, kept, Schedule(table.trace, profile, batch), optimizer).compile()


class _Compiler:
    """Emits the steps with what they read and write; lifetimes and what runs in place are read off those."""

    def __init__(self, table: UpdateTable, kept: Kept, schedule: Schedule, optimizer: str) -> None:
        self.table, self.schedule, self.trace = table, schedule, table.trace
        self.eager, self.dtypes = schedule.eager, schedule.profile.memory.dtypes
        self.optimizer, self.states = optimizer, OPTIMIZERS.load(optimizer).state
        self.rows = [row for row in self.trace.order if table.present[0, row]]
        self.live, self.trains = table.live[0], table.trains[0]
        self.steps: list[tuple[Phase, int, list[Key], list[Key]]] = []
        self.scratch: dict[int, int] = {}  # by step, bytes
        self.sizes = self._sizes(kept)
        self.held: dict[int, list[Key]] = {}  # by row, what it keeps
        for tensor, holders in kept.holders.items():
            for row, _ in holders:
                self.held.setdefault(row, []).append((Kind.ACTIVATION, tensor))
        for row in kept.extra:
            self.held.setdefault(row, []).append((Kind.KEPT, row))

    def compile(self) -> Program:
        for row in self.rows:
            self._forward(row)
        final = self.rows[-1]
        self._emit(Phase.LOSS, final, [(Kind.ACTIVATION, final)], [(Kind.GRADIENT, final)])
        for row in reversed(self.rows):
            if self.live[row]:
                self._backward(row)
        if self.eager:
            gradients: list[Key] = [(Kind.WEIGHT_GRADIENT, row) for row in self.rows if self.trains[row]]
            # The caller holds the images and the logits.
            held: list[Key] = [(Kind.ACTIVATION, INPUT), (Kind.ACTIVATION, final)]
            self._emit(Phase.UPDATE, final, gradients + held, [(Kind.PARAMETERS, row) for row in self.rows])
        return self._program()

    def _sizes(self, kept: Kept) -> dict[Key, int]:
        """Bytes of every tensor that the step may have."""
        schedule, table, dtypes = self.schedule, self.table, self.dtypes
        sizes: dict[Key, int] = {(Kind.ACTIVATION, INPUT): schedule.activation[INPUT]}
        for row in self.rows:
            layer = self.trace.rows[row]
            weights, trained = int(table.trained_weights[0, row]), int(table.trained_params[0, row])
            parameters = int(schedule.aligned(trained, dtypes.trained))
            sizes[Kind.STATE, row] = self.states * parameters
            if self.eager:
                copied = weights * dtypes.trained if weights < layer.weights else 0
                parameters = (layer.params + layer.running_statistics) * dtypes.frozen + copied
            elif table.statistics[0, row]:
                sizes[Kind.STATISTICS, row] = int(schedule.aligned(layer.running_statistics, dtypes.trained))
            sizes[Kind.PARAMETERS, row] = parameters
            sizes[Kind.WEIGHT_GRADIENT, row] = int(schedule.aligned(trained, dtypes.gradient))
            sizes[Kind.ACTIVATION, row] = schedule.activation[row]
            sizes[Kind.GRADIENT, row] = schedule.gradient[row]
        for row, amount in kept.extra.items():
            sizes[Kind.KEPT, row] = int(np.max(schedule.aligned(amount)))
        return {key: size for key, size in sizes.items() if size}

    def _emit(self, phase: Phase, row: int, reads: Iterable[Key], writes: Iterable[Key], scratch: int = 0) -> None:
        if scratch:
            self.scratch[len(self.steps)] = scratch
        known = self.sizes
        self.steps.append((phase, row, [k for k in reads if k in known], [k for k in writes if k in known]))

    def _forward(self, row: int) -> None:
        sources = [s for s in self.schedule.sources[row] if s == INPUT or self.table.present[0, s]]
        reads: list[Key] = [(Kind.ACTIVATION, source) for source in sources]
        writes: list[Key] = [(Kind.ACTIVATION, row), (Kind.KEPT, row), (Kind.STATISTICS, row)]
        scratch = self.schedule.scratch[row] + self._composed(row)
        self._emit(Phase.FORWARD, row, [*reads, (Kind.PARAMETERS, row)], writes, scratch)

    def _backward(self, row: int) -> None:
        passing = [s for s in self.schedule.sources[row] if s != INPUT and self.live[s]]
        gradients: list[Key] = [(Kind.GRADIENT, source) for source in passing]
        given: list[Key] = [(Kind.GRADIENT, row)]
        held, parameters = self.held.get(row, []), [(Kind.PARAMETERS, row)]
        weight_gradient: list[Key] = [(Kind.WEIGHT_GRADIENT, row)] if self.trains[row] else []
        if self.eager:
            known = {key for _, _, _, writes in self.steps for key in writes}
            scratch = sum(self.sizes[key] for key in gradients if key in known)
            scratch += self._composed(row) if self.table.live_inputs[0, row] else 0
            self._emit(Phase.BACKWARD, row, given + held + parameters, gradients + weight_gradient, scratch)
            return
        # A conv needs what it keeps for its weight gradient alone; other rows hold on to it for both.
        weighted = self.trace.rows[row].kind in ("conv", "linear")
        if weight_gradient:
            self._emit(Phase.WEIGHT_GRADIENT, row, given + held, weight_gradient)
        if passing:
            self._emit(Phase.INPUT_GRADIENT, row, given + parameters + ([] if weighted else held), gradients)
        if weight_gradient:
            self._emit(Phase.UPDATE, row, weight_gradient, [*parameters, (Kind.STATE, row)])

    def _composed(self, row: int) -> int:
        """Bytes of a partly trained weight that an eager runtime puts together."""
        weights = int(self.table.trained_weights[0, row])
        whole = self.trace.rows[row].weights
        return whole * self.dtypes.frozen if self.eager and 0 < weights < whole else 0

    def _program(self) -> Program:
        touched: dict[Key, list[int]] = {}
        for number, (_, _, reads, writes) in enumerate(self.steps):
            for key in (*reads, *writes):
                touched.setdefault(key, []).append(number)
        life = {key: (steps[0], steps[-1]) for key, steps in touched.items()}
        end = len(self.steps) - 1
        for key in self.sizes:
            if key[0] in PERSISTENT:
                life[key] = (0, end)
        life[Kind.ACTIVATION, INPUT] = (0, life[Kind.ACTIVATION, INPUT][1])
        numbers = {key: number for number, key in enumerate(life)}
        over = {
            key: other for step in range(end + 1) if (pair := self._overwriting(step, life)) for key, other in [pair]
        }
        buffers: dict[Key, int] = {}
        for key in sorted(life, key=lambda key: life[key]):
            buffers[key] = buffers[over[key]] if key in over else len(set(buffers.values()))
        tensors = [Tensor(*key, self.sizes[key], *life[key], buffers[key]) for key in life]
        count = len(set(buffers.values()))
        steps = []
        for number, (phase, row, reads, writes) in enumerate(self.steps):
            written = [numbers[key] for key in writes]
            if number in self.scratch:
                written.append(len(tensors))
                tensors.append(Tensor(Kind.SCRATCH, row, self.scratch[number], number, number, count))
                count += 1
            steps.append(Step(phase, row, tuple(numbers[key] for key in reads), tuple(written)))
        return Program(self.schedule, self.optimizer, tuple(steps), tuple(tensors))

    def _overwriting(self, number: int, life: Mapping[Key, tuple[int, int]]) -> tuple[Key, Key] | None:
        """The tensor that a step makes in the place of one that dies in it, and that one."""
        phase, row, _, _ = self.steps[number]
        for source in self.schedule.overwrites[row]:
            made, dying = (Kind.ACTIVATION, row), (Kind.ACTIVATION, source)
            element = self.dtypes.activation
            if phase == Phase.INPUT_GRADIENT:
                made, dying = (Kind.GRADIENT, source), (Kind.GRADIENT, row)
                element = self.dtypes.gradient
            elif phase != Phase.FORWARD:
                return None
            if made in life and dying in life and life[made][0] == number == life[dying][1]:
                channel = self.schedule.channel(row, element)
                if channel:
                    self.scratch[number] = self.scratch.get(number, 0) + channel
                return made, dying
        return None
