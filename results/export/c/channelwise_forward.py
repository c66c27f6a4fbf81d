"""The forward pass of an inverted residual, a few channels at a time.

Only those channels of the expanded maps exist, in scratch; what is kept of them for the backward pass goes into its
tensor as it is made.
"""

from collections.abc import Callable

from ....devices.step.channels import Chain
from ....devices.step.program import Operation
from ....devices.step.tensors import Kind
from ....spaces.trace import INPUT
from .arena import FLOAT
from .backward import whole
from .channel_loop import COUNT, FIRST, SOME, open_loop, some
from .constants import hex_float
from .forward import Forward


class ChannelwiseForward:
    """Writes the forward operations that run by channels.

    Args:
        forward: Writes those that do not.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward, self.network, self.symbols = forward, forward.network, forward.symbols
        self.arena, self.code = forward.arena, forward.code
        self._maps: dict[int, int] = {}
        self._home = ""  # the scratch that the channels may lie in
        self._last = INPUT

    def operation(self, operation: Operation) -> None:
        """Write one operation."""
        chain = self.arena.program.setting.chains[operation.row]
        self._place(chain)
        self._last = operation.row
        step, channels = chain.channels, self.network.layer(chain.inner[0]).in_channels
        names = ", ".join(self.network.layer(row).name for row in chain.rows)
        self.code.comment(f"{step} of {channels} channels at a time: {names}")
        places = {
            self._local(row): (self.arena.scratch(first), self.network.layer(row).name)
            for row, first in self._maps.items()
        }
        open_loop(self.code, channels, step, places)
        (source,) = self.network.layer(chain.rows[0]).inputs
        x = "" if chain.expands else some(self.forward.x(source), self.network.shape(source)[1])
        for row in chain.rows:
            if row == chain.rows[0] and chain.expands:
                x = self._expand(row)
            elif row == operation.row and chain.projects:
                self._project(row, x)
            else:
                kinds: dict[str, Callable[[int, str], str]] = {
                    "conv": self._depthwise,
                    "norm": self._norm,
                    "act": self._activation,
                    "other": self._mean,
                }
                x = kinds[self.network.layer(row).kind](row, x)
        self.code.close()
        self.code.close()
        self.code.drop_unused(map(self._local, self._maps))
        self.forward.add_lite(operation.row)

    def _local(self, row: int) -> str:
        """The name of the map that a row makes, of the channels that run."""
        return f"x{list(self._maps).index(row)}"

    def _place(self, chain: Chain) -> None:
        """Where in the scratch the maps of the channels lie."""
        setting, first, self._maps = self.arena.program.setting, 0, {}
        makers = [row for row in chain.rows if self.network.layer(row).kind in ("conv", "other")]
        for row, elements in zip(makers, chain.maps, strict=False):
            self._maps[row] = first
            first += int(setting.aligned(elements, FLOAT)) // FLOAT

    def _made(self, row: int) -> str:
        """Where a row that makes a map of its own writes it."""
        scratch = self._local(row) if row in self._maps else ""
        if self.arena.has(Kind.ACTIVATION, row):
            self._home = scratch if row != self._last else ""
            return some(self.forward.x(row), self.network.shape(row)[1])
        self._home = scratch
        return scratch

    def _after(self, row: int, x: str) -> str:
        """Where a row that works element by element writes its output: over its input, unless one of them is kept."""
        if self.arena.has(Kind.ACTIVATION, row):
            return some(self.forward.x(row), self.network.shape(row)[1])
        assert self._home, f"{self.network.layer(row).name} has no place for its output"  # behind a convolution
        return self._home

    def _copy(self, out: str, x: str, pixels: int) -> None:
        if out != x:
            self.code.call("memcpy", out, x, f"(size_t)({COUNT} * {pixels}) * sizeof(float)")

    def _gather(self, row: int, x: str) -> None:
        if self.arena.has(Kind.KEPT, row):
            index, count = self.symbols.index(row)
            pixels = self.network.shape(self.network.layer(row).inputs[0])[1]
            self.code.call("ts_gather_part", self.arena.at(Kind.KEPT, row), x, index, count, SOME, pixels)

    def _expand(self, row: int) -> str:
        layer, symbols = self.network.layer(row), self.symbols
        (source,) = layer.inputs
        ins, pixels = layer.in_channels, self.network.shape(row)[1]
        x = self.forward.x(source)
        if self.arena.has(Kind.KEPT, row):  # of the chain's input, which is whole
            index, count = symbols.index(row)
            self.code.line("if (c == 0)")
            self.code.call("    ts_gather", self.arena.at(Kind.KEPT, row), x, index, count, pixels)
        out = self._made(row)
        operands = (symbols.weight(row), symbols.bias(row), ins, layer.out_channels, whole(ins), SOME, pixels, 0)
        self.code.call("ts_pointwise_part", out, x, *operands)
        return out

    def _project(self, row: int, x: str) -> None:
        layer, symbols = self.network.layer(row), self.symbols
        self._gather(row, x)
        ins, outs = layer.in_channels, layer.out_channels
        operands = (symbols.weight(row), symbols.bias(row), ins, outs, SOME, whole(outs))
        self.code.call("ts_pointwise_part", self.forward.x(row), x, *operands, self.network.shape(row)[1], "c > 0")

    def _depthwise(self, row: int, x: str) -> str:
        symbols = self.symbols
        self._gather(row, x)
        out = self._made(row)
        operands = (symbols.weight(row), symbols.bias(row), symbols.shape(row), SOME, "NULL")
        self.code.call("ts_depthwise_part", out, x, *operands)
        return out

    def _mean(self, row: int, x: str) -> str:
        (source,) = self.network.layer(row).inputs
        out = self._made(row)
        self.code.call("ts_mean", out, x, COUNT, self.network.shape(source)[1])
        return out

    def _norm(self, row: int, x: str) -> str:
        norm, pixels, symbols = self.network.norm(row), self.network.shape(row)[1], self.symbols
        out = self._after(row, x)
        if row in self.forward.norms:
            self._copy(out, x, pixels)
            return out
        if norm.affine:
            self._copy(out, x, pixels)
            operands = (some(symbols.slope(row), 1), some(symbols.offset(row), 1))
            self.code.call("ts_affine", out, *operands, COUNT, pixels)
            return out
        scale, shift = some(symbols.scale(row), 1), some(symbols.shift(row), 1)
        if not norm.statistics_train:
            self._copy(out, x, pixels)
            statistics = (some(pointer, 1) for pointer in symbols.statistics(row))
            self.code.call("ts_batch_norm", out, scale, shift, *statistics, COUNT, pixels)
            return out
        channels = self.network.layer(row).in_channels
        mean = inverse = "NULL"
        if self.arena.has(Kind.KEPT, row):
            mean, inverse = (some(self.arena.at(Kind.KEPT, row, n), 1) for n in (0, channels))
        means, variances = (some(symbols.running(row, n), 1) for n in (0, channels))
        moving = (out, x, scale, shift, means, variances)
        sizes = (COUNT, pixels, hex_float(norm.eps), 0)
        self.code.line("if (training)")
        self.code.call("    ts_batch_norm_train", *moving, hex_float(norm.momentum), mean, inverse, *sizes)
        self.code.line("else")
        self.code.call("    ts_batch_norm_predict", *moving, *sizes)
        return out

    def _activation(self, row: int, x: str) -> str:
        layer, pixels = self.network.layer(row), self.network.shape(row)[1]
        count = f"{COUNT} * {pixels}" if pixels != 1 else COUNT
        out = self._after(row, x)
        if self.arena.has(Kind.KEPT, row):
            first = f"{FIRST} * {pixels}" if pixels != 1 else FIRST
            mask = self.arena.at(Kind.KEPT, row)
            if not self.network.table.sign[0, row]:
                self._copy(out, x, pixels)
                self.code.call(f"ts_{layer.op}_mask_part", out, mask, first, count)
                return out
            self.code.call("ts_sign_mask_part", x, mask, first, count)
        if out != x and layer.op in ("hardswish", "silu"):
            self.code.call(f"ts_{layer.op}_to", out, x, count)
        else:
            self._copy(out, x, pixels)
            self.code.call(f"ts_{layer.op}", out, count)
        return out
