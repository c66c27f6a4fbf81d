"""The tensors of a plan as pointers into one array of floats, each with a name of its own."""

import re
from collections.abc import Mapping

from ....devices.step.plan import Plan
from ....devices.step.program import Operation
from ....devices.step.tensors import PERSISTENT, Key, Kind
from ....spaces.trace import INPUT

#: What the names of tensors begin with, by kind.
PREFIX = {
    Kind.PARAMETERS: "p",
    Kind.STATISTICS: "r",
    Kind.STATE: "v",
    Kind.ACTIVATION: "x",
    Kind.KEPT: "k",
    Kind.GRADIENT: "g",
    Kind.WEIGHT_GRADIENT: "dw",
    Kind.SCRATCH: "t",
}
#: Bytes of an element.
FLOAT = 4


class Arena:
    """Where the tensors of a plan lie.

    Args:
        plan: A plan of one area.
        names: Identifiers of layers, by their names.
    """

    def __init__(self, plan: Plan, names: Mapping[str, str]) -> None:
        self.plan, self.program, self._names = plan, plan.program, names
        self.numbers: dict[Key, int] = {
            (t.kind, t.row): n for n, t in enumerate(self.program.tensors) if t.kind != Kind.SCRATCH
        }
        self._used: set[int] = set()
        self._operation: Operation | None = None

    def enter(self, operation: Operation) -> None:
        """Let an operation be the one whose tensors are asked for from now on."""
        self._operation = operation

    def has(self, kind: Kind, row: int) -> bool:
        """Whether the operation reads or writes a tensor; of those that last, whether there is one."""
        number = self.numbers.get((kind, row))
        return number is not None and self._may(number)

    def at(self, kind: Kind, row: int, first: int = 0) -> str:
        """A tensor of the operation as a C expression, from its element `first` on."""
        number = self.numbers[kind, row]
        assert self._may(number), f"{self._operation} touches {kind} of row {row}, which its program does not say"
        self._used.add(number)
        name = self.name(number)
        return f"{name} + {first}" if first else name

    def has_scratch(self) -> bool:
        """Whether the operation has scratch."""
        return self._scratch() is not None

    def scratch(self, first: int = 0) -> str:
        """The scratch of the operation, from its element `first` on, or NULL."""
        number = self._scratch()
        if number is None:
            return "NULL"
        assert FLOAT * first < self.program.tensors[number].bytes, f"{self._operation} has too little scratch"
        self._used.add(number)
        return f"{self.name(number)} + {first}" if first else self.name(number)

    def _scratch(self) -> int | None:
        assert self._operation is not None
        tensors = self.program.tensors
        return next((n for n in self._operation.writes if tensors[n].kind == Kind.SCRATCH), None)

    def same(self, first: tuple[Kind, int], second: tuple[Kind, int]) -> bool:
        """Whether two tensors lie in the same place."""
        tensors = self.program.tensors
        return tensors[self.numbers[first]].buffer == tensors[self.numbers[second]].buffer

    def made_here(self, kind: Kind, row: int) -> bool:
        """Whether the operation is the first that has a tensor."""
        first = self.program.tensors[self.numbers[kind, row]].first
        return self.program.operations[first] is self._operation

    def name(self, number: int) -> str:
        """The name of a tensor."""
        tensor = self.program.tensors[number]
        layer = "image" if tensor.row == INPUT else self._names[self.program.setting.trace.rows[tensor.row].name]
        name = f"{PREFIX[tensor.kind]}_{layer}"
        if tensor.kind == Kind.SCRATCH:  # a row may have some, of one operation each
            name = f"{name}_{tensor.first}"
        return name

    def declarations(self, code: str) -> str:
        """The tensors that were asked for, those that last first and then in the order in which they are made.

        Args:
            code: The lines that use them: scratch that none of them names is left out.
        """
        tensors, last = self.program.tensors, len(self.program.operations) - 1
        order = sorted(self._used, key=lambda n: (tensors[n].kind not in PERSISTENT, tensors[n].first, n))
        lines = []
        for number in order:
            tensor = tensors[number]
            if tensor.kind == Kind.SCRATCH and not re.search(rf"\b{self.name(number)}\b", code):
                continue
            when = "always" if (tensor.first, tensor.last) == (0, last) else f"{tensor.first} to {tensor.last}"
            place = f"arena + {self.plan.place(number).offset // FLOAT}"
            declared = f"static float *const {self.name(number)} = {place};"
            if self.is_mask(number):
                declared = f"static uint8_t *const {self.name(number)} = (uint8_t *)({place});"
            lines.append(f"{declared:<78} /* {tensor.bytes:>6} B, {when} */")
        return "\n".join(lines)

    def is_mask(self, number: int) -> bool:
        """Whether a tensor is one of bits."""
        tensor = self.program.tensors[number]
        return tensor.kind == Kind.KEPT and self.program.setting.trace.rows[tensor.row].kind == "act"

    def _may(self, number: int) -> bool:
        tensor = self.program.tensors[number]
        lasts = tensor.kind == Kind.WEIGHT_GRADIENT and self.program.setting.accumulates
        if tensor.kind in PERSISTENT or lasts or self._operation is None:
            return True
        return number in (*self._operation.reads, *self._operation.writes)
