"""Frozen layers that run line by line: a table of stages for `ts_rows`."""

from ....core.errors import UnsupportedError
from ....core.text import in_comment
from ....devices.step.lines import Stage
from ....devices.step.program import Operation
from ....devices.step.tensors import Kind
from ....spaces.trace import INPUT
from .arena import FLOAT
from .forward import Forward

#: The C names of activations.
ACTS = {
    "": "TS_NONE",
    "relu": "TS_RELU",
    "relu6": "TS_RELU6",
    "hardswish": "TS_HARDSWISH",
    "silu": "TS_SILU",
    "hardsigmoid": "TS_HARDSIGMOID",
    "sigmoid": "TS_SIGMOID",
}


class Linewise:
    """Writes the operations that run line by line.

    Args:
        forward: Writes those that do not.

    Attributes:
        tables: The tables of stages.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward, self.network, self.symbols = forward, forward.network, forward.symbols
        self.arena, self.code = forward.arena, forward.code
        self.tables: list[str] = []

    def operation(self, operation: Operation, reads_image: str) -> None:
        """Write one operation.

        Args:
            operation: The operation.
            reads_image: The whole image as a C expression, where the stretch begins with it and it is no tensor.
        """
        frozen = self.arena.program.setting.frozen
        assert frozen is not None
        stages = [stage for stage in frozen.stages.values() if stage.output in operation.rows]
        outputs = [stage.output for stage in stages]
        source = self._source(stages, outputs)
        held = source != INPUT or (Kind.ACTIVATION, INPUT) in self.arena.numbers
        offset = 0 if held else frozen.ring_bytes(INPUT) // FLOAT
        lines: list[str] = []
        for stage in stages:
            last = stage.output == operation.row
            lines.append(self._stage(stage, outputs, 0 if last else frozen.lines[stage.output], offset))
            offset += 0 if last else frozen.ring_bytes(stage.output) // FLOAT
        name = f"lines_to_{self.symbols.name(operation.row)}"
        self.tables.append("\n".join([f"static const ts_row_stage {name}[] = {{", *lines, "};"]))
        first, final = self.network.layer(operation.rows[0]), self.network.layer(operation.row)
        self.code.comment(f"{first.name} to {final.name}: {len(stages)} stages line by line, {self._note(stages)}")
        inputs = self.forward.x(source) if held else reads_image
        callback = ("NULL", "NULL", 0) if held else ("rows", "context", frozen.lines[INPUT])
        operands = (self.forward.x(operation.row), inputs, *callback, name, len(stages))
        self.code.call("ts_rows", *operands, "lines", self.arena.scratch())

    def _source(self, stages: list[Stage], outputs: list[int]) -> int:
        outside = {source for stage in stages for source in stage.inputs if source not in outputs}
        assert len(outside) == 1, f"a stretch that reads {len(outside)} maps"
        return outside.pop()

    def _note(self, stages: list[Stage]) -> str:
        maps = max((self.network.layer(stage.output).out_elements for stage in stages), default=0)
        return f"no map of up to {maps} values between them exists"

    def _stage(self, stage: Stage, outputs: list[int], lines: int, offset: int) -> str:
        first, *behind = stage.rows
        layer, symbols = self.network.layer(first), self.symbols
        act = ""
        for row in behind:
            follower = self.network.layer(row)
            if follower.kind == "act" and not act:
                act = follower.op
            elif follower.kind != "norm" or act or symbols.folded.get(first) != row:
                raise UnsupportedError(
                    f"to=c: {follower.name} behind {layer.name} cannot be computed line by line: choose a device whose "
                    "schedule is not line_by_line",
                    "to=c",
                )
        inputs = [outputs.index(source) if source in outputs else -1 for source in stage.inputs]
        if layer.op == "add":
            kind, weight, bias = "TS_ROW_ADD", "NULL", "NULL"
            channels, height, width = layer.out_shape
            shape: tuple[int, ...] = (channels, channels, 1, 1, 1, 1, 0, 0, height, width, height, width)
        else:
            kind = "TS_ROW_DEPTHWISE" if layer.depthwise else "TS_ROW_POINTWISE" if layer.pointwise else "TS_ROW_CONV"
            weight, bias, shape = symbols.frozen(first), symbols.bias(first), self.network.geometry(first)
        fields = ", ".join(map(str, shape))
        names = f"/* {in_comment(layer.name)} */"
        other = inputs[1] if len(inputs) > 1 else 0
        return (
            f"    {names}\n    {{{kind}, {ACTS[act]}, {inputs[0]}, {other}, {{{fields}}},\n"
            f"     {weight}, {bias}, {lines}, {offset}}},"
        )
