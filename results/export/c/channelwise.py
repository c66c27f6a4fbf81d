"""The backward pass of an inverted residual, a few channels at a time.

Only the gradient of those channels exists: in scratch for as many channels as run at a time. Each row of the chain gets
the same kernels as layer by layer, with a range of channels.
"""

from collections.abc import Callable

from ....devices.step.channels import Chain
from ....devices.step.program import Operation
from ....devices.step.tensors import Kind
from ....spaces.engine.masks import SLOPES
from ....spaces.operations import EXACT_MASK
from .arena import FLOAT, Arena
from .backward import Backward, Target, whole
from .channel_loop import COUNT, FIRST, SOME, open_loop, some
from .code import Code
from .constants import hex_float
from .forward import lite_source
from .network import Network
from .symbols import Symbols


class Channelwise:
    """Writes the operations that run by channels.

    Args:
        backward: Writes those that do not, and says where gradients of weights go.
    """

    def __init__(self, backward: Backward) -> None:
        self.backward = backward
        self.network: Network = backward.network
        self.arena: Arena = backward.arena
        self.symbols: Symbols = backward.symbols
        self.code: Code = backward.code
        self._maps: dict[int, int] = {}
        self._targets: dict[int, Target] = {}
        self._scales = 0

    def operation(self, operation: Operation) -> None:
        """Write one operation."""
        chain, table = self.arena.program.setting.chains[operation.row], self.network.table
        rows = [row for row in reversed(chain.rows) if table.live[0, row]]
        self._place(chain)
        channels = self.network.layer(chain.inner[0]).in_channels
        names = ", ".join(self.network.layer(row).name for row in rows)
        self.code.comment(f"backward, {chain.channels} of {channels} channels at a time: {names}")
        self._targets = {row: self.backward.begin_update(row) for row in rows if self.backward.trained(row)}
        if chain.projects and table.bias[0, operation.row]:
            self._bias(operation.row, self.backward.g(operation.row), whole_layer=True)
        lite = lite_source(self.network, self.arena, operation.row)
        if lite is not None and self.arena.has(Kind.GRADIENT, lite):
            self.backward.pass_on(operation.row, lite)
        self._loop(chain, channels, rows)
        for row, target in self._targets.items():
            self.backward.end_update(row, target)

    def _loop(self, chain: Chain, channels: int, rows: list[int]) -> None:
        step, last, start = chain.channels, chain.rows[-1], len(self.code.lines)
        places = {
            self._local(row): (self.arena.scratch(first), self.network.layer(self.network.layer(row).inputs[0]).name)
            for row, first in self._maps.items()
        }
        open_loop(self.code, channels, step, places)
        begun = len(self.code.lines)
        g = "" if chain.projects else some(self.backward.g(last), self.network.shape(last)[1])
        for row in rows:
            if row == last and chain.projects:
                g = self._project(row)
            elif row == chain.rows[0] and chain.expands:
                self._expand(row, g)
            else:
                kinds: dict[str, Callable[[Chain, int, str], str]] = {
                    "conv": self._depthwise,
                    "norm": self._norm,
                    "act": self._activation,
                }
                kind = self.network.layer(row).kind
                g = self._mean(row, g) if kind == "other" else kinds[kind](chain, row, g)
        first = chain.rows[0]
        if not chain.expands and first in rows and self.network.table.live_inputs[0, first]:
            self._pass_on(first, g)
        empty = len(self.code.lines) == begun  # as where the bias of the projection is the lowest that trains
        self.code.close()
        self.code.close()
        if empty:
            del self.code.lines[start:]
        else:
            self.code.drop_unused(map(self._local, self._maps))

    def _local(self, row: int) -> str:
        """The name of the gradient that a row makes of its input, of the channels that run."""
        return f"g{list(self._maps).index(row)}"

    def _place(self, chain: Chain) -> None:
        """Where in the scratch the gradients of the channels lie, and old scales behind them."""
        setting, first = self.arena.program.setting, 0
        self._maps = {}
        for row, elements in chain.gradient_maps:
            if self.network.table.live_inputs[0, row]:
                self._maps[row] = first
                first += int(setting.aligned(elements, FLOAT)) // FLOAT
        self._scales = first

    def _dst(self, row: int, first: int = 0) -> tuple[str, str]:
        target = self._targets[row]
        return self.arena.at(target.kind, row, first), target.factor

    def _bias(self, row: int, g: str, *, whole_layer: bool = False) -> None:
        dst, factor = self._dst(row, self.symbols.trained_weights(row))
        channels, pixels = self.network.shape(row)
        if whole_layer:
            self.code.call("ts_channel_sum", dst, factor, g, channels, pixels)
        else:
            self.code.call("ts_channel_sum", f"{dst} + {FIRST}", factor, g, COUNT, pixels)

    def _project(self, row: int) -> str:
        layer, given = self.network.layer(row), self.backward.g(row)
        ins, outs, pixels = layer.in_channels, layer.out_channels, self.network.shape(row)[1]
        weight, g = self.symbols.weight(row), ""
        if self.network.table.live_inputs[0, row]:
            g = self._local(row)
            self.code.call("ts_pointwise_dx", g, given, weight, ins, outs, SOME, whole(outs), pixels, 0)
        if self.symbols.trained_weights(row):
            kept = self.backward.kept_input(row)
            operands = (*self._dst(row), given, kept, weight, ins, outs, SOME, whole(outs), pixels)
            self.code.call("ts_pointwise_dw", *operands)
        return g

    def _expand(self, row: int, g: str) -> None:
        layer = self.network.layer(row)
        ins, outs, pixels = layer.in_channels, layer.out_channels, self.network.shape(row)[1]
        weight = self.symbols.weight(row)
        if self.network.table.live_inputs[0, row]:
            (source,) = layer.inputs
            adds = "1" if self.backward.adds(source) else "c > 0"
            self.code.call(
                "ts_pointwise_dx", self.backward.g(source), g, weight, ins, outs, whole(ins), SOME, pixels, adds
            )
        if self.symbols.trained_weights(row):
            kept = self.backward.kept_input(row)
            operands = (*self._dst(row), g, kept, weight, ins, outs, whole(ins), SOME, pixels)
            self.code.call("ts_pointwise_dw", *operands)
        if self.network.table.bias[0, row]:
            self._bias(row, g)

    def _depthwise(self, chain: Chain, row: int, g: str) -> str:
        weight, shape = self.symbols.weight(row), self.symbols.shape(row)
        found = ""
        if self.network.table.live_inputs[0, row]:
            if row in self._maps:
                found = self._local(row)
            else:  # straight to where the gradient of the chain's input lies
                (source,) = self.network.layer(chain.rows[0]).inputs
                found = some(self.backward.g(source), self.network.shape(source)[1])
            self.code.call("ts_depthwise_dx", found, g, weight, shape, SOME, "NULL")
        if self.symbols.trained_weights(row):
            kept = self.backward.kept_input(row)
            self.code.call("ts_depthwise_dw", *self._dst(row), g, kept, weight, shape, SOME)
        if self.network.table.bias[0, row]:
            self._bias(row, g)
        return found

    def _mean(self, row: int, g: str) -> str:
        if not self.network.table.live_inputs[0, row]:
            return g
        (source,) = self.network.layer(row).inputs
        found = self._local(row)
        self.code.call("ts_mean_dx", found, g, COUNT, self.network.shape(source)[1], 0)
        return found

    def _norm(self, chain: Chain, row: int, g: str) -> str:
        norm, pixels = self.network.norm(row), self.network.shape(row)[1]
        (source,) = self.network.layer(row).inputs
        passes = bool(self.network.table.live_inputs[0, row])
        scale = "" if norm.affine else some(self.symbols.scale(row), 1)
        if passes and norm.scale_trains and self._targets[row].kind == Kind.PARAMETERS:
            old = self.arena.scratch(self._scales)
            self.code.call("memcpy", old, scale, f"(size_t){COUNT} * sizeof(float)")
            scale = old
        mean = inverse = ""
        if norm.statistics_train:
            channels = self.network.layer(row).in_channels
            mean, inverse = (some(self.arena.at(Kind.KEPT, row, n), 1) for n in (0, channels))
        elif not norm.affine:
            mean, inverse = (some(pointer, 1) for pointer in self.symbols.statistics(row))
        if norm.scale_trains:
            dst, factor = self._dst(row)
            x = some(self.backward.x(source), pixels)
            self.code.call("ts_scale_gradient", f"{dst} + {FIRST}", factor, g, x, mean, inverse, COUNT, pixels)
        if norm.shift_trains:
            self._bias(row, g)
        if not passes or row in self.backward.folded_norms:
            return g
        if norm.statistics_train:
            x = some(self.backward.x(source), pixels)
            self.code.call("ts_group_norm_dx", g, g, x, scale, mean, inverse, COUNT, COUNT, pixels)
        elif norm.affine:
            self.code.call("ts_scale_channels", g, g, some(self.symbols.slope(row), 1), COUNT, pixels)
        else:
            for factor in (scale, inverse):
                self.code.call("ts_scale_channels", g, g, factor, COUNT, pixels)
        return g

    def _activation(self, chain: Chain, row: int, g: str) -> str:
        layer, pixels = self.network.layer(row), self.network.shape(row)[1]
        if not self.network.table.live_inputs[0, row]:
            return g
        count = f"{COUNT} * {pixels}" if pixels != 1 else COUNT
        if self.arena.has(Kind.KEPT, row):
            exact = not self.network.table.sign[0, row] and layer.op in EXACT_MASK
            slope = hex_float(SLOPES.get(layer.op, 1.0) if exact else 1.0)
            first = f"{FIRST} * {pixels}" if pixels != 1 else FIRST
            self.code.call("ts_mask_backward", g, self.arena.at(Kind.KEPT, row), first, count, slope)
        else:
            by_input = layer.op in ("hardswish", "silu")
            kept = some(self.backward.x(layer.inputs[0] if by_input else row), pixels)
            self.code.call(f"ts_{layer.op}_backward", g, kept, count)
        return g

    def _pass_on(self, first: int, g: str) -> None:
        """Where the chain's input has other readers, what its channels get is not in its place yet."""
        (source,) = self.network.layer(first).inputs
        pixels = self.network.shape(source)[1]
        place = some(self.backward.g(source), pixels)
        if g == place:
            return
        if self.backward.adds(source):
            self.code.call("ts_add", place, g, f"{COUNT} * {pixels}")
        else:
            self.code.call("memcpy", place, g, f"(size_t)({COUNT} * {pixels}) * sizeof(float)")
