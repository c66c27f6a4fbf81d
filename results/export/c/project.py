"""The folder of an export: the program, its kernels, a self-test, a demo and the board's files."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....core.errors import UnsupportedError
from ....core.files import write_atomically
from ....core.text import in_markdown
from ....devices.profile import DeviceProfile
from ....devices.step.compiler import compile_step
from ....devices.step.plan import Plan, make_plan
from ....spaces.engine.origin import base_digest
from ....spaces.policy import UpdatePolicy
from ....spaces.trace import trace
from ...environment import package_version
from .board import STACK_BYTES, board_script, qemu_script, ram
from .constants import hex_float, wrapped
from .examples import Examples
from .golden import STEPS, Golden, Training, golden
from .names import program_name
from .network import Network
from .program import Identity, Program
from .templating import KERNELS, read, render

if TYPE_CHECKING:
    from torch import nn

#: Files that are copied as they are: from which folder of the package, and which.
COPIED = (
    (KERNELS, ("ts_kernels.c", "ts_kernels.h", "ts_port.h")),
    (
        "templates",
        (
            "console.c",
            "console.h",
            "console_host.c",
            "board/semihosting.c",
            "board/semihosting.h",
            "board/startup.c",
        ),
    ),
)
#: From which allowed difference on a self-test tells little.
CHAOTIC = 1e-2


@dataclass(frozen=True)
class Project:
    """An export before it is written.

    Attributes:
        program: The program.
        plan: Its memory.
        profile: The board.
        examples: The images.
        golden: What the self-test compares with.
        normalisation: How images are normalised, in words.
    """

    program: Program
    plan: Plan
    profile: DeviceProfile
    examples: Examples
    golden: Golden
    normalisation: str

    @classmethod
    def of(
        cls,
        policy: UpdatePolicy,
        backbone: "nn.Module",
        profile: DeviceProfile,
        *,
        batch: int,
        optimizer: str,
        learning_rate: float,
        name: str | None = None,
        images: Any | None = None,
        labels: Sequence[int] | None = None,
    ) -> "Project":
        """Generate all of it; what cannot be said in C is refused here.

        Raises:
            UnsupportedError: Something of the network or the policy has no kernel.
            InputError: The policy is for another backbone, or the name or the images are wrong.
        """
        if batch > 1 and not profile.memory.schedule.one_by_one:
            raise UnsupportedError(
                f"to=c takes one image at a time, which the runtime of {profile.name} does not for a batch of {batch}: "
                "give batch=1",
                "to=c",
                "batch=1",
            )
        found = trace(backbone, policy.input_shape)
        title = policy.backbone or found.name
        chosen = program_name(name, title)
        network = Network(backbone, policy, found)
        examples = Examples.of(found.input_shape, found.num_classes, backbone, images, labels)
        plan = make_plan(compile_step(network.table, profile, batch, optimizer))
        digest = base_digest(backbone, policy.head)
        program = Program(
            network, plan, Identity(chosen, package_version("tinysearch") or "", title, policy, digest, learning_rate)
        )
        expected = golden(backbone, policy, examples, Training(batch, optimizer, learning_rate))
        return cls(program, plan, profile, examples, expected, _normalisation(backbone))

    @property
    def predicted(self) -> Mapping[str, int]:
        """Bytes: of the arena, of other variables, of the constants, of a block of what was trained."""
        return {
            "arena": self.program.arena_bytes,
            "lower_bound": self.plan.lower_bound,
            "static": self.program.static_bytes,
            "stack": STACK_BYTES,
            "constants": self.program.constants.bytes,
            "delta": self.program.delta_bytes,
        }

    @property
    def needed_bytes(self) -> int:
        """RAM: arena, other variables and stack."""
        return self.program.arena_bytes + self.program.static_bytes + STACK_BYTES

    def warn(self) -> None:
        """Say what will not link, and what no self-test can tell."""
        room = ram(self.profile)
        if self.needed_bytes > room.size:
            warnings.warn(
                f"the program needs {self.needed_bytes} bytes of RAM, and {self.profile.name} has {room.size} in one "
                "piece: it will not link for the board",
                stacklevel=2,
            )
        if (apart := max(self.golden.tolerances)) > CHAOTIC:
            warnings.warn(
                f"at this learning rate PyTorch's own losses differ by {apart:.1g} for a difference in the last digit: "
                "the self-test allows as much; give a lower learning rate",
                stacklevel=2,
            )

    def write(self, out: Path) -> list[Path]:
        """Write all files, and return their paths."""
        texts = dict(self.program.files())
        name, values = self.program.identity.name, self._values()
        for template, file in (
            ("NAME_example.h", f"{name}_example.h"),
            ("NAME_example.c", f"{name}_example.c"),
            ("NAME_selftest.c", f"{name}_selftest.c"),
            ("main.c", "main.c"),
            ("Makefile", "Makefile"),
            ("README.md", "README.md"),
        ):
            texts[file] = render(template, values)
        for folder, names in COPIED:
            texts |= {file: read(folder, file) for file in names}
        texts["board/board.ld"] = board_script(self.profile, self.program.constants.bytes)
        texts["board/qemu.ld"] = qemu_script(self.profile, self.program.constants.bytes)
        texts["plan.json"] = self.plan.to_json()
        (out / "board").mkdir()
        for file, text in texts.items():
            write_atomically(out / file, text)
        return [out / file for file in texts]

    def _values(self) -> dict[str, object]:
        identity = self.program.identity
        method = f" (`{in_markdown(identity.policy.method)}`)" if identity.policy.method else ""
        device = in_markdown(self.profile.description)
        needed, room = self.needed_bytes, ram(self.profile)
        verdict = "fits" if needed <= room.size else "DOES NOT FIT"
        shape = self.program.network.trace.input_shape
        return {
            **self.program.values(),
            **self.examples.values(),
            "STEPS": STEPS,
            "LOSSES": wrapped(map(hex_float, self.golden.losses)),
            "TOLERANCES": wrapped(f"{tolerance:.1e}f" for tolerance in self.golden.tolerances),
            "STACK_BYTES": STACK_BYTES,
            "CONSTANT_BYTES": self.program.constants.bytes,
            "LOWER_BOUND": self.plan.lower_bound,
            "METHOD": method,
            "IMAGE": f"{shape[1]} x {shape[2]}",
            "DEVICE": device,
            "FITS": f"All of it {verdict} {in_markdown(room.name)} of {device}, {room.size} bytes.",
            "NORMALISATION": self.normalisation,
            "QEMU_RAM": ram(self.profile).size,
            "FPU": "d16" if self.profile.fpu == "double" else "sp-d16",
        }


def _normalisation(backbone: "nn.Module") -> str:
    found = getattr(backbone, "normalisation", None)
    if found is None:
        return "Values of an image are what the network was trained on: the generator does not know how."
    mean, deviation = (", ".join(f"{value:g}" for value in values) for values in found)
    return (
        f"A value of an image is (pixel / 255 - mean) / deviation, with means {mean} and deviations {deviation} of the "
        "channels."
    )
