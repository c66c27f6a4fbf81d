"""The backward pass, layer by layer: each operation of the program as calls of kernels.

Gradients of weights have one form, `dst += factor * gradient`. So a row's weight gradient is written once, whether it
is gathered in a tensor of its own or goes straight into the trained values (`Target`). What runs a few channels at a
time is in `channelwise`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ....core.errors import UnsupportedError
from ....devices.step.program import Operation
from ....devices.step.tensors import Kind
from ....devices.step.walk import Phase
from ....spaces.engine.masks import SLOPES
from ....spaces.operations import EXACT_MASK
from ....spaces.trace import INPUT
from .arena import Arena
from .code import Code
from .constants import hex_float
from .describing import describe
from .forward import gate_and_gated, lite_source
from .network import Network
from .symbols import Symbols

#: What a step of gradient descent adds of a gradient, as a C expression.
DESCENT = "-state.learning_rate"


@dataclass(frozen=True)
class Target:
    """Where a row's weight gradient goes.

    Attributes:
        kind: A tensor that is laid out as what trains.
        factor: By what the gradient is multiplied before it is added, as a C expression.
    """

    kind: Kind
    factor: str


class Backward:
    """Writes the backward pass.

    Args:
        network: The network.
        arena: Where tensors lie.
        symbols: Names of constants.
        code: Where to write.
        momentum: What the optimizer keeps of its last step's direction, 0 for plain gradient descent.
    """

    def __init__(self, network: Network, arena: Arena, symbols: Symbols, code: Code, momentum: float = 0.0) -> None:
        self.network, self.arena, self.symbols, self.code = network, arena, symbols, code
        self.momentum = momentum
        self.folded_norms = set(symbols.folded.values())

    def operation(self, operation: Operation) -> None:
        """Write one operation."""
        phases: dict[Phase, Callable[[int], None]] = {
            Phase.LOSS: self._loss,
            Phase.WEIGHT_GRADIENT: self._weight_gradient,
            Phase.INPUT_GRADIENT: self._input_gradient,
            Phase.BACKWARD: self._fused,
            Phase.UPDATE: self._update,
        }
        phases[operation.phase](operation.row)

    def g(self, row: int) -> str:
        """The gradient of a row's output."""
        return self.arena.at(Kind.GRADIENT, row)

    def x(self, row: int) -> str:
        """A row's output."""
        return self.arena.at(Kind.ACTIVATION, row)

    def elements(self, row: int) -> int:
        """Elements of a row's output."""
        channels, pixels = self.network.shape(row)
        return channels * pixels

    # The loss, and what trains

    def _loss(self, row: int) -> None:
        self.code.comment("softmax cross entropy")
        classes = self.elements(row)
        self.code.line(f"const float loss = ts_cross_entropy({self.g(row)}, {self.x(row)}, label, {classes});")

    def _weight_gradient(self, row: int) -> None:
        self.code.comment(f"{describe(self.network, row)}: gradient of what trains")
        if not self.accumulates:
            self.code.call("ts_zero", self.arena.at(Kind.WEIGHT_GRADIENT, row), self.trained(row))
        self.gradients(row, Target(Kind.WEIGHT_GRADIENT, self.share))

    def _fused(self, row: int) -> None:
        """The gradient of the input with what trains as it was, and what trains as it becomes."""
        norm = self.network.layer(row).kind == "norm"
        learns = self.trained(row) > 0
        if norm and learns:
            # Its input's gradient takes the place of its output's, so what trains comes first.
            self.code.comment(f"{describe(self.network, row)}: backward")
            scale = self.saved_scale(row)
            target = self.begin_update(row)
            self.gradients(row, target)
            self._input_gradient(row, scale=scale, told=True)
            self.end_update(row, target)
            return
        self.code.comment(f"{describe(self.network, row)}: backward")
        self._input_gradient(row, told=True)
        if learns:
            target = self.begin_update(row)
            self.gradients(row, target)
            self.end_update(row, target)

    def saved_scale(self, row: int) -> str | None:
        """Set a norm's scale aside, if its update and the gradient of its input are one operation."""
        norm = self.network.norm(row)
        needed = norm.scale_trains and self.arena.has_scratch() and self.target(row).kind == Kind.PARAMETERS
        if not needed or not self.network.table.live_inputs[0, row]:
            return None
        scratch, count = self.arena.scratch(), self.network.layer(row).in_channels
        self.code.call("memcpy", scratch, self.symbols.scale(row), f"{count} * sizeof(float)")
        return scratch

    @property
    def accumulates(self) -> bool:
        """Whether weight gradients are added up over several images."""
        return self.arena.program.setting.accumulates

    @property
    def share(self) -> str:
        """What a weight gradient of one image is multiplied by."""
        return hex_float(1 / self.arena.program.setting.batch)

    def target(self, row: int) -> Target:
        """Where a fused update's gradient goes."""
        if self.accumulates:
            return Target(Kind.WEIGHT_GRADIENT, self.share)
        if (Kind.STATE, row) in self.arena.numbers:
            return Target(Kind.STATE, "1.0f")
        return Target(Kind.PARAMETERS, DESCENT)

    def begin_update(self, row: int) -> Target:
        """What comes before a gradient is added; where it goes."""
        target = self.target(row)
        if target.kind == Kind.STATE:
            self.code.call("ts_decay", self.arena.at(Kind.STATE, row), hex_float(self.momentum), self.trained(row))
        return target

    def end_update(self, row: int, target: Target) -> None:
        """What comes behind it."""
        if target.kind == Kind.STATE:
            parameters, velocity = self.arena.at(Kind.PARAMETERS, row), self.arena.at(Kind.STATE, row)
            self.code.call("ts_axpy", parameters, DESCENT, velocity, self.trained(row))

    def _update(self, row: int) -> None:
        count = self.trained(row)
        parameters, gradient = self.arena.at(Kind.PARAMETERS, row), self.arena.at(Kind.WEIGHT_GRADIENT, row)
        self.code.comment(f"{self.network.layer(row).name}: update")
        if self.arena.has(Kind.STATE, row):
            velocity = self.arena.at(Kind.STATE, row)
            self.code.call("ts_decay", velocity, hex_float(self.momentum), count)
            self.code.call("ts_axpy", velocity, "1.0f", gradient, count)
            self.code.call("ts_axpy", parameters, DESCENT, velocity, count)
        else:
            self.code.call("ts_axpy", parameters, DESCENT, gradient, count)
        if self.accumulates:
            self.code.call("ts_zero", gradient, count)

    def trained(self, row: int) -> int:
        """Elements that train of a row, its bias included."""
        table, layer = self.network.table, self.network.layer(row)
        return self.symbols.trained_weights(row) + (layer.biases if table.bias[0, row] else 0)

    def gradients(self, row: int, target: Target) -> None:
        """Add the gradients of a row's weight and bias to a target."""
        layer, weights = self.network.layer(row), self.symbols.trained_weights(row)
        if weights:
            kinds: dict[str, Callable[[int, Target], None]] = {
                "conv": self._conv_weight,
                "linear": self._linear_weight,
                "norm": self._norm_scale,
            }
            kinds[layer.kind](row, target)
        if self.network.table.bias[0, row]:
            dst = self.arena.at(target.kind, row, weights)
            self.code.call("ts_channel_sum", dst, target.factor, self.g(row), *self.network.shape(row))

    def kept_input(self, row: int) -> str:
        """What a row's weight gradient needs of its input: all of it, or the channels that were kept."""
        if self.arena.has(Kind.KEPT, row):
            return self.arena.at(Kind.KEPT, row)
        return self.x(self.network.layer(row).inputs[0])

    def _conv_weight(self, row: int, target: Target) -> None:
        layer, dst = self.network.layer(row), self.arena.at(target.kind, row)
        operands = (dst, target.factor, self.g(row), self.kept_input(row), self.symbols.weight(row))
        if layer.depthwise:
            self.code.call("ts_depthwise_dw", *operands, self.symbols.shape(row), whole(layer.out_channels))
        elif self.network.layer(row).pointwise:
            ins, outs = layer.in_channels, layer.out_channels
            self.code.call("ts_pointwise_dw", *operands, ins, outs, whole(ins), whole(outs), self.network.shape(row)[1])
        else:
            self.code.call("ts_conv_dw", *operands, self.symbols.shape(row))

    def _linear_weight(self, row: int, target: Target) -> None:
        layer, dst = self.network.layer(row), self.arena.at(target.kind, row)
        operands = (dst, target.factor, self.g(row), self.kept_input(row), self.symbols.weight(row))
        self.code.call("ts_linear_dw", *operands, layer.in_channels, layer.out_channels)

    def _norm_scale(self, row: int, target: Target) -> None:
        layer, dst, x = (
            self.network.layer(row),
            self.arena.at(target.kind, row),
            self.x(self.network.layer(row).inputs[0]),
        )
        operands = (dst, target.factor, self.g(row), x)
        norm = self.network.norm(row)
        if layer.op == "group" or norm.statistics_train:
            groups = norm.groups if layer.op == "group" else layer.in_channels
            statistics = (self.arena.at(Kind.KEPT, row, n) for n in (0, groups))
            self.code.call("ts_group_norm_dscale", *operands, *statistics, groups, *self.network.shape(row))
        else:
            self.code.call("ts_scale_gradient", *operands, *self.symbols.statistics(row), *self.network.shape(row))

    # The gradients of inputs

    def _input_gradient(self, row: int, *, scale: str | None = None, told: bool = False) -> None:
        layer = self.network.layer(row)
        lite = lite_source(self.network, self.arena, row)
        targets = [source for source in layer.inputs if self._needed(source)]
        if not told:
            self.code.comment(f"{describe(self.network, row)}: gradient of the input")
        if lite is not None and self._needed(lite):
            self.pass_on(row, lite, last=not targets)
        if layer.op == "add":
            # What lies in the place of the given gradient comes last.
            targets.sort(key=lambda source: self._in_place(row, source))
            for source in targets:
                self.pass_on(row, source, last=source == targets[-1])
        elif targets and layer.kind == "norm":
            self._norm_input(row, scale)
        elif targets:
            kinds: dict[str, Callable[[int], None]] = {
                "conv": self._conv_input,
                "linear": self._linear_input,
                "act": self._activation_input,
            }
            others: dict[str, Callable[[int], None]] = {
                "mul": self._gate_input,
                "mean": self._mean_input,
                "adaptiveavgpool2d": self._mean_input,
                "avgpool2d": self._pool_input,
                "interpolate": self._interpolate_input,
            }
            (kinds.get(layer.kind) or others[layer.op])(row)

    def _needed(self, source: int) -> bool:
        return source != INPUT and self.arena.has(Kind.GRADIENT, source)

    def _in_place(self, row: int, source: int) -> bool:
        return self.arena.same((Kind.GRADIENT, row), (Kind.GRADIENT, source))

    def adds(self, source: int) -> int:
        """1 where the source has a gradient of another reader already."""
        return int(not self.arena.made_here(Kind.GRADIENT, source))

    def pass_on(self, row: int, source: int, *, last: bool = False) -> None:
        """Let the gradient of a row's output be, or be added to, that of a source's."""
        count = self.elements(row)
        if self.adds(source):
            self.code.call("ts_add", self.g(source), self.g(row), count)
        elif not self._in_place(row, source):
            self.code.call("memcpy", self.g(source), self.g(row), f"{count} * sizeof(float)")
        elif last:
            self.code.line("/* It lies in the place of that of the output, as it is. */")

    def _in_place_of(self, row: int, write: Callable[[str], None]) -> None:
        """Have the gradient of an element-wise operation's only input written over one that lies at an address."""
        (source,) = self.network.layer(row).inputs
        if self.adds(source):
            write(self.g(row))
            self.code.call("ts_add", self.g(source), self.g(row), self.elements(row))
            return
        if not self._in_place(row, source):
            self.code.call("memcpy", self.g(source), self.g(row), f"{self.elements(row)} * sizeof(float)")
        write(self.g(source))

    def _conv_input(self, row: int) -> None:
        layer = self.network.layer(row)
        (source,) = layer.inputs
        operands, adds = (self.g(source), self.g(row), self.symbols.weight(row)), self.adds(source)
        if layer.depthwise and not adds:
            channels, scratch = whole(layer.out_channels), self.arena.scratch()
            self.code.call("ts_depthwise_dx", *operands, self.symbols.shape(row), channels, scratch)
        elif self.network.layer(row).pointwise:
            ins, outs = layer.in_channels, layer.out_channels
            pixels = self.network.shape(row)[1]
            self.code.call("ts_pointwise_dx", *operands, ins, outs, whole(ins), whole(outs), pixels, adds)
        else:
            self.code.call("ts_conv_dx", *operands, self.symbols.shape(row), adds)

    def _linear_input(self, row: int) -> None:
        layer = self.network.layer(row)
        (source,) = layer.inputs
        sizes = (layer.in_channels, layer.out_channels, self.adds(source))
        self.code.call("ts_linear_dx", self.g(source), self.g(row), self.symbols.weight(row), *sizes)

    def _norm_input(self, row: int, old_scale: str | None = None) -> None:
        layer, norm = self.network.layer(row), self.network.norm(row)
        channels, pixels = self.network.shape(row)
        (source,) = layer.inputs
        scale = old_scale or (self.symbols.scale(row) if not norm.affine or layer.op == "group" else "")

        def write(g: str) -> None:
            if row in self.folded_norms:
                if self._in_place(row, source):
                    conv = self.network.layer(source).name
                    self.code.line(f"/* Its slope is in the weight of {conv}: nothing to do. */")
            elif layer.op == "group" or norm.statistics_train:
                groups = norm.groups if layer.op == "group" else channels
                statistics = (self.arena.at(Kind.KEPT, row, n) for n in (0, groups))
                operands = (g, g, self.x(source), scale, *statistics)
                self.code.call("ts_group_norm_dx", *operands, groups, channels, pixels)
            elif norm.scale_trains:
                for factor in (scale, self.symbols.statistics(row)[1]):
                    self.code.call("ts_scale_channels", g, g, factor, channels, pixels)
            else:
                self.code.call("ts_scale_channels", g, g, self.symbols.slope(row), channels, pixels)

        self._in_place_of(row, write)

    def _activation_input(self, row: int) -> None:
        layer, count = self.network.layer(row), self.elements(row)

        def write(g: str) -> None:
            if self.arena.has(Kind.KEPT, row):
                exact = not self.network.table.sign[0, row] and layer.op in EXACT_MASK
                slope = SLOPES.get(layer.op, 1.0) if exact else 1.0
                mask = self.arena.at(Kind.KEPT, row)
                self.code.call("ts_mask_backward", g, mask, 0, count, hex_float(slope))
            else:
                by_input = layer.op in ("hardswish", "silu")
                kept = self.x(layer.inputs[0] if by_input else row)
                self.code.call(f"ts_{layer.op}_backward", g, kept, count)

        self._in_place_of(row, write)

    def _gate_input(self, row: int) -> None:
        gate, gated = gate_and_gated(self.network, row)
        channels, pixels = self.network.shape(row)
        if self._needed(gate):
            self._refuse_adding(gate)
            self.code.call("ts_dot_channels", self.g(gate), self.g(row), self.x(gated), channels, pixels)
        if self._needed(gated):
            self._refuse_adding(gated)
            self.code.call("ts_scale_channels", self.g(gated), self.g(row), self.x(gate), channels, pixels)

    def _mean_input(self, row: int) -> None:
        (source,) = self.network.layer(row).inputs
        channels, pixels = self.network.shape(source)
        self.code.call("ts_mean_dx", self.g(source), self.g(row), channels, pixels, self.adds(source))

    def _pool_input(self, row: int) -> None:
        layer = self.network.layer(row)
        (source,) = layer.inputs
        sizes = (*layer.in_shape, self.network.pool(row), self.adds(source))
        self.code.call("ts_avg_pool_dx", self.g(source), self.g(row), *sizes)

    def _interpolate_input(self, row: int) -> None:
        layer = self.network.layer(row)
        (source,) = layer.inputs
        self._refuse_adding(source)
        self.code.call("ts_bilinear_dx", self.g(source), self.g(row), *layer.in_shape, *layer.out_shape[1:])

    def _refuse_adding(self, source: int) -> None:
        if self.adds(source):
            raise UnsupportedError(
                f"to=c: {self.network.layer(source).name} is read by others besides: no kernel adds up their gradients",
                "to=c",
            )


def whole(channels: int) -> str:
    """All channels as a `ts_range`."""
    return f"(ts_range){{0, {channels}}}"
