"""The forward pass: each operation of the program as calls of kernels."""

from collections.abc import Callable

from ....devices.step.program import Operation
from ....devices.step.tensors import Kind
from ....spaces.trace import INPUT
from .arena import Arena
from .code import Code
from .constants import hex_float
from .describing import describe
from .network import Network
from .symbols import Symbols


class Forward:
    """Writes the forward pass.

    Args:
        network: The network.
        arena: Where tensors lie.
        symbols: Names of constants.
        code: Where to write.
    """

    def __init__(self, network: Network, arena: Arena, symbols: Symbols, code: Code) -> None:
        self.network, self.arena, self.symbols, self.code = network, arena, symbols, code
        self.norms = {norm: conv for conv, norm in symbols.folded.items()}

    def operation(self, operation: Operation) -> None:
        """Write one operation."""
        row = operation.row
        layer = self.network.layer(row)
        if row in self.norms:
            self.add_lite(row)
            return
        note = ""
        if row in self.symbols.folded:
            norm = self.symbols.folded[row]
            shift = ", whose shift is the bias" if self.network.norm(norm).shift_trains else ""
            note = f"; {self.network.layer(norm).name} is in the weight{shift}"
        self.code.comment(f"{describe(self.network, row)}{note}")
        kinds: dict[str, Callable[[int], None]] = {
            "conv": self._conv,
            "linear": self._linear,
            "norm": self._norm,
            "act": self._activation,
        }
        others: dict[str, Callable[[int], None]] = {
            "add": self._add,
            "mul": self._gate,
            "mean": self._mean,
            "adaptiveavgpool2d": self._mean,
            "avgpool2d": self._pool,
            "interpolate": self._interpolate,
        }
        (kinds.get(layer.kind) or others[layer.op])(row)
        self.add_lite(row)

    def x(self, row: int) -> str:
        """A row's output."""
        return self.arena.at(Kind.ACTIVATION, row)

    def in_place(self, row: int, source: int) -> bool:
        """Whether a row's output lies where a source's does."""
        return self.arena.same((Kind.ACTIVATION, row), (Kind.ACTIVATION, source))

    def elements(self, row: int) -> int:
        """Elements of a row's output."""
        channels, pixels = self.network.shape(row)
        return channels * pixels

    def _keep(self, row: int, pixels: int) -> None:
        if self.arena.has(Kind.KEPT, row):
            index, count = self.symbols.index(row)
            source = self.x(self.network.layer(row).inputs[0])
            self.code.call("ts_gather", self.arena.at(Kind.KEPT, row), source, index, count, pixels)

    def _conv(self, row: int) -> None:
        layer, symbols = self.network.layer(row), self.symbols
        (source,) = layer.inputs
        out, inputs = self.x(row), self.x(source)
        self._keep(row, self.network.shape(source)[1])
        weight, bias = symbols.weight(row), symbols.bias(row)
        if layer.depthwise:
            scratch = self.arena.scratch()
            self.code.call("ts_depthwise", out, inputs, weight, bias, symbols.shape(row), scratch)
        elif self.network.layer(row).pointwise:
            pixels = self.network.shape(row)[1]
            self.code.call("ts_pointwise", out, inputs, weight, bias, layer.in_channels, layer.out_channels, pixels)
        else:
            self.code.call("ts_conv", out, inputs, weight, bias, symbols.shape(row))

    def _linear(self, row: int) -> None:
        layer, symbols = self.network.layer(row), self.symbols
        self._keep(row, 1)
        sizes = (layer.in_channels, layer.out_channels)
        self.code.call(
            "ts_linear", self.x(row), self.x(layer.inputs[0]), symbols.weight(row), symbols.bias(row), *sizes
        )

    def _norm(self, row: int) -> None:
        layer, norm, symbols = self.network.layer(row), self.network.norm(row), self.symbols
        (source,) = layer.inputs
        channels, pixels = self.network.shape(row)
        out = self.x(row)
        if layer.op == "group":
            mean = inverse = "NULL"
            if self.arena.has(Kind.KEPT, row):
                mean, inverse = (self.arena.at(Kind.KEPT, row, n) for n in (0, norm.groups))
            sizes = (norm.groups, channels, pixels, hex_float(norm.eps))
            self.code.call(
                "ts_group_norm", out, self.x(source), symbols.scale(row), symbols.shift(row), mean, inverse, *sizes
            )
            return
        if norm.statistics_train:
            self._train_statistics(row, source)
            return
        if norm.affine:
            self._copy(row, source)
            self.code.call("ts_affine", out, symbols.slope(row), symbols.offset(row), channels, pixels)
            return
        operands = (symbols.scale(row), symbols.shift(row), *symbols.statistics(row), channels, pixels)
        lite = self._lite(row)
        if lite is not None and self.in_place(row, lite):
            # The module's answer lies there already.
            self.code.call("ts_add_batch_norm", out, self.x(source), *operands)
        else:
            self._copy(row, source)
            self.code.call("ts_batch_norm", out, *operands)

    def _train_statistics(self, row: int, source: int) -> None:
        norm, symbols, (channels, pixels) = self.network.norm(row), self.symbols, self.network.shape(row)
        lite = self._lite(row)
        adds = int(lite is not None and self.in_place(row, lite))
        mean = inverse = "NULL"
        if self.arena.has(Kind.KEPT, row):
            mean, inverse = (self.arena.at(Kind.KEPT, row, n) for n in (0, channels))
        running = symbols.running(row), symbols.running(row, channels)
        operands = (self.x(row), self.x(source), symbols.scale(row), symbols.shift(row), *running)
        sizes = (channels, pixels, hex_float(norm.eps), adds)
        self.code.line("if (training)")
        self.code.call("    ts_batch_norm_train", *operands, hex_float(norm.momentum), mean, inverse, *sizes)
        self.code.line("else")
        self.code.call("    ts_batch_norm_predict", *operands, *sizes)

    def _activation(self, row: int) -> None:
        layer = self.network.layer(row)
        (source,) = layer.inputs
        out, count = self.x(row), self.elements(row)
        masked = self.arena.has(Kind.KEPT, row)
        if masked and self.network.table.sign[0, row]:
            self.code.call("ts_sign_mask", self.x(source), self.arena.at(Kind.KEPT, row), count)
            masked = False
        if masked:
            self._copy(row, source)
            self.code.call(f"ts_{layer.op}_mask", out, self.arena.at(Kind.KEPT, row), count)
        elif layer.op in ("hardswish", "silu") and not self.in_place(row, source):
            self.code.call(f"ts_{layer.op}_to", out, self.x(source), count)
        else:
            self._copy(row, source)
            self.code.call(f"ts_{layer.op}", out, count)

    def _add(self, row: int) -> None:
        first, second = self.network.layer(row).inputs
        lite = self._lite(row)
        if lite is not None and self.in_place(row, lite):
            self.code.call("ts_add", self.x(row), self.x(first), self.elements(row))
        else:
            if self.in_place(row, second):
                first, second = second, first
            self._copy(row, first)
        self.code.call("ts_add", self.x(row), self.x(second), self.elements(row))

    def _gate(self, row: int) -> None:
        gate, gated = gate_and_gated(self.network, row)
        channels, pixels = self.network.shape(row)
        self.code.call("ts_scale_channels", self.x(row), self.x(gated), self.x(gate), channels, pixels)

    def _mean(self, row: int) -> None:
        (source,) = self.network.layer(row).inputs
        self.code.call("ts_mean", self.x(row), self.x(source), *self.network.shape(source))

    def _pool(self, row: int) -> None:
        layer = self.network.layer(row)
        self.code.call("ts_avg_pool", self.x(row), self.x(layer.inputs[0]), *layer.in_shape, self.network.pool(row))

    def _interpolate(self, row: int) -> None:
        layer = self.network.layer(row)
        sizes = (*layer.in_shape, *layer.out_shape[1:])
        self.code.call("ts_bilinear", self.x(row), self.x(layer.inputs[0]), *sizes, 0)

    def _lite(self, row: int) -> int | None:
        return lite_source(self.network, self.arena, row)

    def add_lite(self, row: int) -> None:
        """Add what the lite residual module beside a block answers to the block's output, if there is one."""
        lite = self._lite(row)
        if lite is not None and not self.in_place(row, lite):
            self.code.comment(f"{self.network.layer(row).name}: and the lite residual module's answer")
            self.code.call("ts_add", self.x(row), self.x(lite), self.elements(row))

    def _copy(self, row: int, source: int) -> None:
        if not self.in_place(row, source):
            size = f"{self.elements(row)} * sizeof(float)"
            self.code.call("memcpy", self.x(row), self.x(source), size)


def lite_source(network: Network, arena: Arena, row: int) -> int | None:
    """The last row of the lite residual module whose answer is added to a row's output, if the policy has one."""
    others = arena.program.setting.sources[row][len(network.layer(row).inputs) :]
    return next((source for source in others if source != INPUT and network.present[source]), None)


def gate_and_gated(network: Network, row: int) -> tuple[int, int]:
    """Of a product: the row of the numbers for each channel, and that of the map."""
    first, second = network.layer(row).inputs
    return (first, second) if network.shape(first)[1] == 1 else (second, first)
