"""Stretches of layers that run a few channels at a time, so that no expanded map exists, nor a gradient of one.

In an inverted residual each expanded channel has a depthwise kernel, norms and activations of its own. So the forward
pass takes a few of them from end to end: it expands them, runs what works channel by channel, and adds their part to
the projection. The backward pass does the reverse: their gradient by the projection, back through what works channel by
channel, and into the gradient of the block's input, to which each adds its part. What is kept for the backward pass is
kept as ever; nothing is computed twice. A convolution in front of a global pool runs so too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from ...spaces.trace import INPUT, Layer, Trace

#: Channels at a time: as many as a blocked matrix product computes at once, and twice that on maps of so many pixels,
#: where what a call takes counts for more (`benchmarks/kernels/instructions.py`) and a few channels more for nothing.
CHANNELS, SMALL_CHANNELS, SMALL_MAP = 4, 8, 64


@dataclass(frozen=True, slots=True)
class Chain:
    """Rows that run by channels.

    Attributes:
        rows: In data-flow order.
        expands: Whether the first is a pointwise convolution, which makes the channels, and in the backward pass adds
            the part of each to the gradient of its input; else it is a depthwise one.
        projects: Whether the last is one, to which each channel adds its part.
        channels: How many run at a time.
        maps: Elements of the maps of those channels that there are besides: the output of what expands, and those of
            all that changes their size. What else there is works in place.
        gradient_maps: The rows that make a gradient of so many elements for those channels. A depthwise convolution
            that a chain begins with makes it where the gradient of the chain's input lies, if it alone reads that.
    """

    rows: tuple[int, ...]
    expands: bool
    projects: bool
    channels: int
    maps: tuple[int, ...]
    gradient_maps: tuple[tuple[int, int], ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """The rows that work channel by channel."""
        return self.rows[self.expands : len(self.rows) - self.projects]


def find_chains(trace: Trace, sources: Mapping[int, tuple[int, ...]]) -> dict[int, Chain]:
    """The chains of a network, by their last row.

    Args:
        trace: The network.
        sources: By row, the rows whose outputs it reads, those of lite residual modules included.
    """
    rows = trace.rows
    readers: dict[int, list[int]] = {}
    for row in trace.order:
        for source in sources[row]:
            readers.setdefault(source, []).append(row)

    def follows(row: int) -> int | None:
        """The one row that reads a row's output, if it alone does and reads nothing else that the network has."""
        own = readers.get(row, [])
        return own[0] if len(own) == 1 and rows[own[0]].inputs == (row,) else None

    found: dict[int, Chain] = {}
    taken: set[int] = set()
    for start in trace.order:
        if start in taken or not (_mixes(rows[start]) or rows[start].depthwise):
            continue
        chain, after = [start], follows(start)
        # A lite residual module may be added to the last row of a chain alone.
        while (
            after is not None and _by_channel(rows[after]) and len(sources[after]) == 1 and not _pools(rows[chain[-1]])
        ):
            chain.append(after)
            after = follows(after)
        expands, projects = _mixes(rows[start]), after is not None and _mixes(rows[after])
        inner = chain[expands:]
        widens = any(rows[each].depthwise or (expands and _pools(rows[each])) for each in inner)
        if not widens or (INPUT in sources[start] and not expands):
            continue
        if projects and after is not None:
            chain.append(after)
        taken.update(chain)
        pixels = max(prod(rows[each].in_shape[1:]) for each in inner)
        channels = min(SMALL_CHANNELS if pixels <= SMALL_MAP else CHANNELS, rows[inner[0]].in_channels)
        sizing = [each for each in chain if rows[each].depthwise or _mixes(rows[each]) or _pools(rows[each])]
        alone = not expands and len(readers[sources[start][0]]) == 1
        forward = sizing[:-1] if projects else sizing
        backward = sizing[1:] if expands or alone else sizing
        found[chain[-1]] = Chain(
            tuple(chain),
            expands,
            projects,
            channels,
            maps=tuple(channels * prod(rows[each].out_shape[1:]) for each in forward),
            gradient_maps=tuple((each, channels * prod(rows[each].in_shape[1:])) for each in backward),
        )
    return found


def _mixes(layer: Layer) -> bool:
    return layer.pointwise and not layer.standardised


def _pools(layer: Layer) -> bool:
    """Whether a row takes the mean of each channel."""
    single = layer.out_shape in (layer.in_shape[:1], (*layer.in_shape[:1], 1, 1))
    return layer.op in ("mean", "adaptiveavgpool2d") and len(layer.in_shape) == 3 and single


def _by_channel(layer: Layer) -> bool:
    if layer.viewed or len(layer.in_shape) != 3:
        return False
    return _pools(layer) or layer.depthwise or layer.kind == "act" or (layer.kind == "norm" and layer.op == "batch")
