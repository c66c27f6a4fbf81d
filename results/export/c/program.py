"""NAME.c, NAME.h and NAME_data.[ch]: a plan as a C program."""

from dataclasses import dataclass
from functools import cached_property

from ....core.text import in_comment, in_markdown
from ....devices.step.plan import Plan
from ....devices.step.tensors import Kind
from ....devices.step.walk import FORWARD_PHASES, Phase
from ....spaces.policy import UpdatePolicy
from ....spaces.trace import INPUT
from .arena import FLOAT, Arena
from .backward import Backward
from .channelwise import Channelwise
from .channelwise_forward import ChannelwiseForward
from .code import Code
from .constants import Constants, hex_float, wrapped
from .folding import find_folded
from .forward import Forward
from .linewise import Linewise
from .names import identifiers
from .network import Network
from .symbols import Symbols
from .templating import render
from .trained import Part, trained_parts

#: Version of the block that a program writes what was trained as.
DELTA_VERSION = 1
#: Bytes of a block besides the values: header and checksum.
DELTA_FRAME = 4 + 4 + 4 + 32 + 16 + 4
#: Momentum of the optimizers that a program can have, by their names.
MOMENTUM = {"sgd": 0.0, "sgd-momentum": 0.9}
#: Bytes of variables besides the arena: the learning rate and whether it is there; over several images, their number.
STATE_BYTES, COUNTER_BYTES = 8, 4


@dataclass(frozen=True)
class Identity:
    """What a program is of, and what it is called.

    Attributes:
        name: What all its identifiers begin with.
        version: Of the package that writes it.
        backbone: Name of the network.
        policy: What trains.
        base_sha256: Digest of the network's weights.
        learning_rate: What a program begins with.
    """

    name: str
    version: str
    backbone: str
    policy: UpdatePolicy
    base_sha256: str
    learning_rate: float

    @property
    def prefix(self) -> str:
        """What macros begin with."""
        return self.name.upper()


class Program:
    """A plan as C.

    Args:
        network: The network.
        plan: Its training step in memory.
        identity: What it is called.
    """

    def __init__(self, network: Network, plan: Plan, identity: Identity) -> None:
        self.network, self.plan, self.identity = network, plan, identity
        trace = network.trace
        names = identifiers(layer.name for layer in trace.rows)
        self.constants = Constants(identity.name)
        self.arena = Arena(plan, names)
        self.symbols = Symbols(network, self.arena, self.constants, names, find_folded(network, plan.program))
        self.forward, self.backward, self.update = Code(), Code(), Code()
        self._tables: list[str] = []
        self._lower()
        self.reset = self._reset()

    @property
    def arena_bytes(self) -> int:
        """What the plan says."""
        return self.plan.size

    @property
    def static_bytes(self) -> int:
        """Of variables besides the arena."""
        return STATE_BYTES + (COUNTER_BYTES if self.plan.program.setting.accumulates else 0)

    @property
    def holds_image(self) -> bool:
        """Whether the whole image lies in the arena."""
        return (Kind.ACTIVATION, INPUT) in self.arena.numbers

    @cached_property
    def parts(self) -> list[Part]:
        """What trains."""
        return list(trained_parts(self.network))

    @property
    def delta_bytes(self) -> int:
        """Of a block of what was trained."""
        return DELTA_FRAME + FLOAT * sum(part.values.size for part in self.parts)

    def files(self) -> dict[str, str]:
        """The four files, by name."""
        name, values = self.identity.name, self.values()
        data = [
            f'/* The constants of {name}: see {name}.c. */\n#include "{name}_data.h"\n',
            *self.constants.definitions(),
        ]
        return {
            f"{name}.h": render("NAME.h", values),
            f"{name}.c": render("NAME.c", values),
            f"{name}_data.h": render("NAME_data.h", values | {"DECLARATIONS": self.constants.declarations()}),
            f"{name}_data.c": "\n".join(data),
        }

    def _lower(self) -> None:
        setting = self.plan.program.setting
        momentum = MOMENTUM[setting.optimizer]
        forward = Forward(self.network, self.arena, self.symbols, self.forward)
        backward = Backward(self.network, self.arena, self.symbols, self.backward, momentum)
        updating = Backward(self.network, self.arena, self.symbols, self.update, momentum)
        by_lines, by_channels, back = Linewise(forward), ChannelwiseForward(forward), Channelwise(backward)
        self._tables = by_lines.tables
        place = ("", "")
        for operation in self.plan.program.operations:
            self.arena.enter(operation)
            if operation.phase == Phase.UPDATE and setting.accumulates:
                updating.operation(operation)
                continue
            ahead = operation.phase in FORWARD_PHASES
            code = self.forward if ahead else self.backward
            block = self.network.layer(operation.row).block
            here = ("forward" if ahead else "backward", "" if block < 0 else self.network.trace.blocks[block].name)
            if here != place and here[1]:
                code.section(here[1])
            elif here != place and place[1] and here[0] == place[0]:
                code.section("the rest" if ahead else "the stem")
            place = here
            if operation.phase == Phase.BY_LINES:
                by_lines.operation(operation, "image")
            elif operation.phase == Phase.FORWARD_BY_CHANNELS:
                by_channels.operation(operation)
            elif operation.phase == Phase.BACKWARD_BY_CHANNELS:
                back.operation(operation)
            else:
                (forward if ahead else backward).operation(operation)

    def _reset(self) -> Code:
        """What trains as it was exported; what the optimizer keeps, and gradients that are gathered, are 0."""
        code, program = Code(), self.plan.program
        if self.holds_image:
            self.arena.enter(program.operations[0])
            self.arena.at(Kind.ACTIVATION, INPUT)
        for part in self.parts:
            layer = self.network.layer(part.row)
            symbols = self.symbols
            if layer.kind in ("conv", "linear") and not part.name.endswith(".bias"):
                code.call("ts_load_weight", symbols.weight(part.row), symbols.shape(part.row))
                continue
            leaf = part.name.rpartition(".")[2]
            array = self.constants.floats(f"{leaf}_{symbols.name(part.row)}", part.values, f"{part.name}, as exported")
            place = self.arena.at(part.kind, part.row, part.first)
            code.call("memcpy", place, array, f"sizeof {array}")
        for (kind, row), number in self.arena.numbers.items():
            if kind == Kind.STATE or (kind == Kind.WEIGHT_GRADIENT and program.setting.accumulates):
                code.call("ts_zero", self.arena.at(kind, row), program.tensors[number].bytes // FLOAT)
        if program.setting.accumulates:
            code.line("state.images = 0;")
        return code

    def values(self) -> dict[str, object]:
        """What the templates have in common."""
        identity, trace, program = self.identity, self.network.trace, self.plan.program
        final = trace.order[-1]
        arena = self.arena
        arena.enter(next(operation for operation in program.operations if operation.phase == Phase.LOSS))
        logits = arena.at(Kind.ACTIVATION, final)
        channels, height, width = trace.input_shape
        sizes = {
            "CHANNELS": channels,
            "HEIGHT": height,
            "WIDTH": width,
            "INPUT_SIZE": channels * height * width,
            "CLASSES": trace.num_classes,
            "BATCH": program.setting.batch,
            "ARENA_BYTES": self.arena_bytes,
            "STATIC_BYTES": self.static_bytes,
            "DELTA_BYTES": self.delta_bytes,
            "TRAINED_COUNT": sum(part.values.size for part in self.parts),
            "DELTA_VERSION": DELTA_VERSION,
        }
        trained = [
            f"    {{{arena.at(part.kind, part.row, part.first)}, {part.values.size}}}, /* {in_comment(part.name)} */"
            for part in self.parts
        ]
        digest = bytes.fromhex(identity.base_sha256)
        return sizes | {
            "NAME": identity.name,
            "PREFIX": identity.prefix,
            "TITLE": f"{in_markdown(identity.backbone)} that trains on the device",
            "VERSION": identity.version,
            "BACKBONE": in_markdown(identity.backbone),
            "POLICY": identity.policy.hash,
            "RATE": f"{identity.learning_rate:g}",
            "RATE_HEX": hex_float(identity.learning_rate),
            **self._variants(),
            "LOGITS": logits,
            "FORWARD": self.forward.text(),
            "BACKWARD": self.backward.text(),
            "RESET": self.reset.text(),
            "SYMBOLS": "\n\n".join([self.symbols.definitions(), *self._tables]),
            "TENSORS": arena.declarations(self.forward.text() + self.backward.text() + self.update.text()),
            "TRAINED": "\n".join(trained),
            "BASE_SHA": wrapped((f"0x{byte:02x}" for byte in digest), indent="     ").strip().removesuffix(","),
        }

    def _variants(self) -> dict[str, object]:
        """What is there in some programs and not in others."""
        setting = self.plan.program.setting
        trains = bool(self.network.table.statistics.any())  # then a norm computes something else in training
        parameters: list[str] = []
        images: list[str] = []
        if not self.holds_image:
            parameters = ["const float *image", f"{self.identity.name}_rows rows", "void *context"]
            images = ["image", "rows", "context"]
        return {
            "LINES": not self.holds_image,
            "ACCUMULATES": setting.accumulates,
            "STAGES": max((table.count("{TS_ROW") for table in self._tables), default=-1) + 1,
            "PARAMETERS": ", ".join([*(["int training"] if trains else []), *parameters]) or "void",
            "TRAINING": ", ".join([*(["1"] if trains else []), *images]),
            "PREDICTING": ", ".join([*(["0"] if trains else []), *images]),
            "UPDATE": self.update.text(),
            "EVERY": f", and after every {setting.batch} images update what trains" if setting.accumulates else "",
        }
