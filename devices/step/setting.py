"""What the training steps of all policies have in common: who reads what, sizes of maps, and what runs in place.

The rules of an arena are those of a microcontroller's runtime:

- Every tensor starts at a multiple of the profile's alignment, and its size is rounded up to it.
- A norm, an activation and an addition overwrite an input that dies with them; a depthwise convolution that keeps the
  size does too, channel by channel, with one channel of scratch (TinyEngine, Lin et al. 2021, section 3.3), and so does
  one that makes the map smaller if the schedule says so. In the backward pass the gradient of an operation's output
  becomes that of its input if both are of one size.
- A dense convolution with a kernel above 1 x 1 on 8- or 16-bit activations unrolls two output positions into 16-bit
  columns (CMSIS-NN, Lai et al. 2018, section 3.2). Assumed of all such runtimes; other kernels need no scratch.

Eager runtimes do none of that.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod

from ...spaces.optimizers import OPTIMIZERS
from ...spaces.trace import INPUT, Layer, Trace
from ..profile import DeviceProfile
from ..profile.model import Schedule
from .channels import Chain, find_chains
from .columns import Amount
from .lines import ELEMENTWISE, Frozen, Needs

#: Columns that a dense convolution unrolls at a time, and bytes of their elements.
IM2COL_COLUMNS, IM2COL_BYTES = 2, 2


@dataclass(frozen=True)
class StepSetting:
    """What a training step is run with, whatever the policy trains.

    Attributes:
        trace: The network.
        profile: The device and runtime.
        batch: Samples of the step.
        optimizer: The name of one of `OPTIMIZERS`.
        state: Values that the optimizer keeps for each trained one.
        sources: Per row, the rows whose outputs it reads; the last row of a block reads the output of the lite
            residual module too, where there is one.

    Raises:
        InputError: The optimizer is unknown.
    """

    trace: Trace
    profile: DeviceProfile
    batch: int
    optimizer: str
    state: int = field(init=False)
    sources: dict[int, tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        lite = {block.output: block.lite[-1] for block in self.trace.blocks if block.lite}
        rows = self.trace.rows
        sources = {row: (*rows[row].inputs, *([lite[row]] if row in lite else [])) for row in self.trace.order}
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "state", OPTIMIZERS.load(self.optimizer).state)

    @property
    def schedule(self) -> Schedule:
        """In what order the runtime of an arena does the step."""
        return self.profile.memory.schedule

    @property
    def samples(self) -> int:
        """Images that are in memory at a time."""
        return 1 if self.schedule.one_by_one else self.batch

    @property
    def accumulates(self) -> bool:
        """Whether weight gradients are added up over several passes, and live for the whole step."""
        return self.schedule.one_by_one and self.batch > 1

    @property
    def eager(self) -> bool:
        """Whether tensors come and go as in PyTorch; else they lie in a static arena."""
        return self.profile.memory.kind == "eager"

    @cached_property
    def alignment(self) -> int:
        """Tensors start at multiples of so many bytes."""
        return 1 if self.eager else self.profile.memory.alignment

    def aligned(self, count: Amount, element_bytes: int = 1) -> Amount:
        """Bytes of a tensor of so many elements: rounded up to the alignment, which is a power of two."""
        size = count if element_bytes == 1 else count * element_bytes
        if element_bytes % self.alignment == 0:
            return size
        return (size + (self.alignment - 1)) & -self.alignment

    @cached_property
    def activation(self) -> list[int]:
        """Bytes of each row's output; the last is the network's input, so that `INPUT` indexes it."""
        return [int(self.aligned(count, self.profile.memory.dtypes.activation)) for count in self._elements]

    @cached_property
    def frozen(self) -> Frozen | None:
        """How frozen layers run below all that trains; None where the runtime runs them as all others."""
        if not self.schedule.line_by_line:
            return None
        element, trace = self.profile.memory.dtypes.activation, self.trace
        heights = [(*shape, 1, 1)[1] for shape in (*(row.out_shape for row in trace.rows), trace.input_shape)]
        needs = Needs(
            activation=self.activation,
            line=[element * count // height for count, height in zip(self._elements, heights, strict=True)],
            scratch=self.scratch,
            channel=self.channel,
            overwrites=self.overwrites,
            chains=self.chains,
            chain_scratch={row: self.chain_scratch(chain) for row, chain in self.chains.items()},
            alignment=self.alignment,
            images=self.images_held,
        )
        return Frozen(trace, needs)

    @property
    def images_held(self) -> bool:
        """Whether images are in memory also where their lines are read one after another."""
        return self.schedule.image == "held"

    @cached_property
    def chains(self) -> dict[int, Chain]:
        """What runs by channels, by its last row; none where nothing does."""
        return find_chains(self.trace, self.sources) if self.schedule.by_channels else {}

    def chain_scratch(self, chain: Chain) -> int:
        """Bytes of the maps of the channels of a chain that run at a time in the forward pass."""
        return sum(int(self.aligned(count, self.profile.memory.dtypes.activation)) for count in chain.maps)

    def scales(self, count: int) -> int:
        """Bytes of the scales of so many channels of a norm."""
        return int(self.aligned(count, self.profile.memory.dtypes.trained))

    @cached_property
    def gradient(self) -> list[int]:
        """Bytes of the gradient of each row's output."""
        return [int(self.aligned(count, self.profile.memory.dtypes.gradient)) for count in self._elements]

    @cached_property
    def overwrites(self) -> dict[int, tuple[int, ...]]:
        """Per row, the sources that its output may take the place of, if they die with it."""
        return {row: self._overwrites(row) for row in self.trace.order}

    @cached_property
    def gradient_overwrites(self) -> dict[int, tuple[int, ...]]:
        """Per row, the sources whose gradients may take the place of that of its output, if that dies with them."""
        elements = self._elements
        return {
            row: tuple(source for source in sources if elements[source] == elements[row])
            for row, sources in self.overwrites.items()
        }

    @cached_property
    def scratch(self) -> dict[int, int]:
        """Per row, bytes that the forward kernel needs besides."""
        return {row: int(self.aligned(self._im2col(self.trace.rows[row]))) for row in self.trace.order}

    @cached_property
    def channel(self) -> list[int]:
        """Bytes that each row needs to overwrite its input: a channel of a depthwise convolution, else none."""
        return self._channels(self.profile.memory.dtypes.activation)

    @cached_property
    def gradient_channel(self) -> list[int]:
        """Likewise to overwrite the gradient of its output."""
        return self._channels(self.profile.memory.dtypes.gradient)

    @cached_property
    def _elements(self) -> list[int]:
        return [*(row.elements(self.samples) for row in self.trace.rows), self.samples * prod(self.trace.input_shape)]

    def _channels(self, element_bytes: int) -> list[int]:
        elements = (prod(layer.in_shape[1:]) if layer.depthwise else 0 for layer in self.trace.rows)
        return [int(self.aligned(count, element_bytes)) for count in elements]

    def _overwrites(self, row: int) -> tuple[int, ...]:
        layer = self.trace.rows[row]
        if self.eager:
            return ()
        if layer.depthwise:
            shrinks = self.schedule.strided_in_place and layer.out_elements <= layer.in_elements
            fits = layer.in_shape == layer.out_shape or shrinks
            return layer.inputs if fits and INPUT not in layer.inputs else ()
        if layer.kind not in ELEMENTWISE and layer.op != "add":
            return ()
        # What a lite residual module adds to a norm's output is read when that is made, not before.
        sources = self.sources[row] if layer.op == "add" else layer.inputs
        return tuple(source for source in sources if self._elements[source] == self._elements[row])

    def _im2col(self, layer: Layer) -> int:
        narrow = self.profile.memory.dtypes.activation < 4
        if self.eager or not narrow or layer.kind != "conv" or layer.depthwise or layer.kernel == (1, 1):
            return 0
        return IM2COL_COLUMNS * IM2COL_BYTES * prod(layer.kernel) * layer.in_channels // layer.groups
