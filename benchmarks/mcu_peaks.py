"""Our memory plans beside the peaks that were published for an STM32F746 (Lin et al. 2022, MCUNetV3, figure 9).

Run: python benchmarks/mcu_peaks.py

Full training, the sparse update of 100 KB, and that with each update applied at once, at 128 pixels and batch 1. The
published figures are of TinyEngine with weights updated in 8 bits; what of ours differs is varied column by column. No
fit: the point is to see which rule makes the difference. Then the levers of a schedule, one after another and each left
out alone.
"""

from collections.abc import Sequence
from typing import Any

from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.plan import make_plan
from tinysearch.devices.step.program import Program
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace

#: KB (1024 B): full, sparse, sparse with reordered in-place update.
PUBLISHED = {
    "mobilenetv2-w0.35-mcu": (2939, 335, 141),
    "proxylessnas-w0.3": (2745, 326, 135),
    "mcunet-5fps": (3650, 560, 173),
}
SIZE = 128


#: The levers of a schedule in the order in which they are pulled.
LEVERS: tuple[dict[str, Any], ...] = (
    {"strided_in_place": True},
    {"line_by_line": True},
    {"fused_updates": True},
    {"by_channels": True},
    {"image": "lines"},
)


def with_dtypes(profile: DeviceProfile, **dtypes: int) -> DeviceProfile:
    """The profile with other sizes of elements."""
    memory = profile.memory.model_copy(update={"dtypes": profile.memory.dtypes.model_copy(update=dtypes)})
    return profile.model_copy(update={"memory": memory})


def with_schedule(profile: DeviceProfile, levers: Sequence[dict[str, Any]]) -> DeviceProfile:
    """The profile with some levers pulled, and none else."""
    schedule = Schedule(**{name: value for lever in levers for name, value in lever.items()})
    return profile.model_copy(update={"memory": profile.memory.model_copy(update={"schedule": schedule})})


def print_levers(found: Trace, policy: UpdatePolicy, profile: DeviceProfile) -> None:
    """How the arena shrinks, and what each lever is worth to the others."""

    def size(levers: Sequence[dict[str, Any]]) -> str:
        return f"{make_plan(program(found, policy, with_schedule(profile, levers))).size / 1024:.1f}"

    sizes = [f"none {size(())}"]
    sizes += [f"+ {', '.join(lever)} {size(LEVERS[: n + 1])}" for n, lever in enumerate(LEVERS)]
    print(f"    levers: {', '.join(sizes)}")
    # What another lever rests on cannot be left out alone.
    without = {
        name: [lever for lever in LEVERS if name not in lever and not set(lever) & rests]
        for name, rests in (
            ("strided_in_place", set()),
            ("line_by_line", {"image"}),
            ("fused_updates", {"by_channels"}),
            ("by_channels", set()),
            ("image", set()),
        )
    }
    print(f"    all but: {', '.join(f'{name} {size(levers)}' for name, levers in without.items())}")


def program(found: Trace, policy: UpdatePolicy, profile: DeviceProfile) -> Program:
    """The step of one policy."""
    return compile_step(UpdateTable.of(found, [policy]), profile, 1, "sgd")


def main() -> None:
    """Print the published peaks and ours."""
    ours = load_device("cortex-m7-int8")
    variants = {
        "fp32": with_dtypes(ours, activation=4, frozen=4),
        "ours": ours,
        "int8 weights": with_dtypes(ours, trained=1),
        "int8 weights and gradients": with_dtypes(ours, trained=1, gradient=1),
    }
    for name, (full, sparse, in_place) in PUBLISHED.items():
        found = trace(load_backbone(name, num_classes=10, input_size=SIZE), (3, SIZE, SIZE))
        print(f"{name} at {SIZE} px, KiB; published: full {full}, sparse {sparse}, with in-place update {in_place}")
        forward = program(found, methods.last(found), ours)
        row = found.rows[forward.peak_operation.row]
        print(
            f"  forward pass alone: {forward.peak_bytes / 1024:.0f}, at {row.name}, {row.in_shape} to {row.out_shape}"
        )
        for method in ("full", "sparse-update-2"):
            policy = methods.named(found)[method]
            for label, profile in variants.items():
                step = program(found, policy, profile)
                plan = make_plan(step)
                parts = ", ".join(f"{part} {size / 1024:.0f}" for part, size in step.parts().items())
                where = step.peak_operation
                at = f"{where.phase.value.replace('_', ' ')} of {found.rows[where.row].name}"
                print(f"  {method}, {label}: plan {plan.size / 1024:.0f} ({100 * plan.gap:.1g} %): {parts}; at {at}")
                if method != "full":
                    print_levers(found, policy, profile)


if __name__ == "__main__":
    main()
