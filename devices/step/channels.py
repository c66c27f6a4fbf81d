"""Stretches of layers whose backward pass runs a few channels at a time, so that no gradient of an expanded map exists.

In an inverted residual each expanded channel has a depthwise kernel, norms and activations of its own. So the backward
pass takes a few of them from end to end: their gradient by the projection, back through what works channel by channel,
and into the gradient of the block's input, to which each adds its part. What the forward pass kept is read as ever;
nothing is computed twice.
"""

from dataclasses import dataclass
from math import prod

from ...spaces.trace import INPUT, Layer
from .setting import StepSetting

#: Channels at a time: as many as a blocked matrix product computes at once.
CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Chain:
    """Rows whose backward pass runs by channels.

    Attributes:
        rows: In data-flow order.
        expands: Whether the first is a pointwise convolution, which adds each channel's part to its input's gradient.
        projects: Whether the last is one, which makes the channels' gradients from that of its output.
        channels: How many run at a time.
        maps: The rows that make a gradient of so many elements for those channels; others change it in place, and
            without a convolution that expands the first may make it where the gradient of the chain's input lies.
    """

    rows: tuple[int, ...]
    expands: bool
    projects: bool
    channels: int
    maps: tuple[tuple[int, int], ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """The rows that work channel by channel."""
        return self.rows[self.expands : len(self.rows) - self.projects]


def find_chains(setting: StepSetting) -> dict[int, Chain]:
    """The chains of a network, by their last row; none where the runtime does not run by channels."""
    if not setting.schedule.by_channels:
        return {}
    rows = setting.trace.rows
    readers: dict[int, list[int]] = {}
    for row in setting.trace.order:
        for source in setting.sources[row]:
            readers.setdefault(source, []).append(row)

    def follows(row: int) -> int | None:
        """The one row that reads a row's output, if it alone does and reads nothing else."""
        own = readers.get(row, [])
        return own[0] if len(own) == 1 and setting.sources[own[0]] == (row,) else None

    found: dict[int, Chain] = {}
    taken: set[int] = set()
    for start in setting.trace.order:
        if start in taken or not (_mixes(rows[start]) or _by_channel(rows[start])):
            continue
        chain, row = [start], follows(start)
        while row is not None and _by_channel(rows[row]):
            chain.append(row)
            row = follows(row)
        expands, projects = _mixes(rows[start]), row is not None and _mixes(rows[row])
        inner = chain[expands:]
        widens = any(rows[each].depthwise for each in inner)
        if not widens or (INPUT in setting.sources[start] and not expands):
            continue
        if projects and row is not None:
            chain.append(row)
        taken.update(chain)
        channels = min(CHANNELS, rows[inner[0]].in_channels)
        makers = [each for each in chain[expands:] if rows[each].depthwise or _mixes(rows[each])]
        alone = not expands and len(readers[setting.sources[start][0]]) == 1
        maps = tuple((each, channels * prod(rows[each].in_shape[1:])) for each in makers[alone:])
        found[chain[-1]] = Chain(tuple(chain), expands, projects, channels, maps)
    return found


def _mixes(layer: Layer) -> bool:
    pointwise = layer.kind == "conv" and layer.kernel == (1, 1) and layer.groups == 1
    return pointwise and layer.stride == (1, 1) and not layer.standardised and not layer.viewed and len(layer.out_shape) == 3


def _by_channel(layer: Layer) -> bool:
    if len(layer.out_shape) != 3 or layer.viewed:
        return False
    return layer.depthwise or layer.kind == "act" or (layer.kind == "norm" and layer.op == "batch")
