"""What to measure: random policies of a backbone at widths and resolutions around its own."""

import re
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import InputError, TinySearchError, UnsupportedError
from ...core.formats import Format
from ...spaces.backbones.catalogue import MAX_WIDTH, MIN_WIDTH, backbone_info, load_backbone
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.policy import UpdatePolicy
from ...spaces.space import UpdateSpace
from ...spaces.trace import trace
from .plain import plain_rows, trained_parts
from .standalone import JOBS_FORMAT, VERSION
from .standalone import OPTIMIZERS as MEASURED

#: Read by `standalone`, which runs alone.
JOBS = Format(JOBS_FORMAT, VERSION, "jobs of a calibration")
#: What is calibrated for unless the user says otherwise.
BACKBONE, INPUT_SIZE, BATCH, OPTIMIZER = "mobilenetv2-w0.35", 96, 8, "adam"
#: Outputs of the measured networks' heads.
CLASSES = 10
#: Widths measured, over the backbone's own; resolutions likewise, in steps of `GRID` pixels.
WIDTHS, SIZES, GRID = (0.6, 3.0), (0.6, 2.3), 16
#: Smallest and largest resolution that is measured around one of one's own.
SMALLEST, LARGEST = 16, 224
#: Every so many steps one is measured again, later: how well the measurement repeats.
AGAIN = 8

_WIDTH = re.compile(r"(mobilenetv[23](?:-small|-large)?)(?:-w([\d.]+))?(-tf)?")


class Effort(NamedTuple):
    """How much to measure.

    Attributes:
        networks: Widths and resolutions.
        policies: Random policies of each.
        visits: Times that each policy is come back to, when others have been measured meanwhile.
        repeats: Timed steps of each visit.
        memory: Policies of which the memory is measured, each in a process of its own.
        seconds: Time after which no further step begins.
    """

    networks: int = 24
    policies: int = 2
    visits: int = 3
    repeats: int = 2
    memory: int = 14
    seconds: float = 135.0


def make_jobs(
    backbone: str | None = None,
    input_size: int | None = None,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    threads: int | None = None,
    plain: bool = False,
    device: str = "cpu",
    effort: Effort | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The content of a jobs file.

    Args:
        backbone: A built-in name, `timm:NAME`, `torchvision:NAME` or `package.module:function`; `BACKBONE` without it.
        input_size: Side of its images in pixels, around which resolutions are drawn; the backbone's own without it.
        batch: Samples of a step; `BATCH` without it.
        optimizer: A name of `OPTIMIZERS`; `OPTIMIZER` without it.
        threads: Of PyTorch; without it one a physical core of the machine that measures.
        plain: For a machine without tinysearch: networks as lists of PyTorch's own layers.
        device: cpu or cuda.
        effort: How much to measure.
        seed: Of the draws.

    Raises:
        InputError: There is no such backbone, it does not run at its resolution, or a number is wrong.
        UnsupportedError: The optimizer cannot be measured; or, with `plain`, the backbone has a layer that the board
            form does not know.
    """
    if backbone is None:
        backbone, input_size = BACKBONE, input_size or INPUT_SIZE
    if input_size is None:
        input_size = int(vars(load_backbone(backbone))["input_size"])
    batch, optimizer = BATCH if batch is None else batch, optimizer or OPTIMIZER
    for name, number in (("input size", input_size), ("batch", batch), ("threads", 1 if threads is None else threads)):
        if number < 1:
            raise InputError(f"the {name} is {number}: it must be at least 1")
    if OPTIMIZERS[optimizer].name not in MEASURED:
        raise UnsupportedError(f"the optimizer {optimizer!r} cannot be measured: there are {', '.join(MEASURED)}")
    effort = effort or Effort()
    rng = np.random.default_rng(seed)
    networks: list[dict[str, Any]] = []
    drawn: list[list[dict[str, Any]]] = []
    chosen = _draw_networks(backbone, input_size, effort.networks, rng)
    # Where only the resolution can vary there are fewer networks, and more policies of each.
    count = -(-effort.networks * effort.policies // len(chosen))
    for name, size in chosen:
        try:
            model = load_backbone(name, num_classes=CLASSES, input_size=size)
            found = trace(model, (3, size, size))
        except TinySearchError as error:
            if name == backbone and size == input_size:
                raise InputError(f"{backbone} cannot be measured at {size} px: {error}") from error
            continue  # a network of one's own need not run at every size
        number = len(networks)
        networks.append({"backbone": name, "input_size": size, "classes": CLASSES})
        if plain:
            networks[-1]["rows"] = plain_rows(model, found)
        space = UpdateSpace(found)
        drawn.append([])
        for row in space.sample(count, int(rng.integers(2**31))):
            policy = space.decode(row)
            if plain:
                policy, trained = trained_parts(found, policy)
                drawn[-1].append({"network": number, "policy": policy.to_json(), "trained": trained})
            else:
                drawn[-1].append({"network": number, "policy": policy.to_json()})
    steps = _order(drawn, rng)
    content = {
        "layers": "plain" if plain else "tinysearch",
        "device": device,
        "threads": threads or 0,
        "batch": batch,
        "optimizer": optimizer,
        "seconds": effort.seconds,
        "visits": effort.visits,
        "repeats": effort.repeats,
        "networks": networks,
        "steps": steps,
        "memory": np.unique(np.linspace(0, len(steps) - 1, effort.memory).astype(int)).tolist(),
    }
    return JOBS.values(content)


def policy_of(step: dict[str, Any]) -> UpdatePolicy:
    """The policy of a step's job."""
    return UpdatePolicy.from_json(step["policy"])


def _draw_networks(backbone: str, input_size: int, count: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Names and resolutions: the backbone's own first, then a Latin hypercube of widths and resolutions."""
    match = _WIDTH.fullmatch(backbone)
    width = float(match[2] or 1) if match else 1.0
    widths = _spread(
        max(MIN_WIDTH, width * WIDTHS[0]), min(MAX_WIDTH, max(width * 1.4, min(width * WIDTHS[1], 1.1))), count, rng
    )
    low, high = max(SMALLEST, input_size * SIZES[0]), max(input_size, min(LARGEST, input_size * SIZES[1]))
    sizes = np.maximum(GRID, GRID * np.round(_spread(low, high, count, rng) / GRID)).astype(int)
    drawn = [(backbone_info(backbone).name, input_size)]
    for factor, size in list(zip(widths, sizes, strict=True))[1:]:
        name = f"{match[1]}-w{factor:.2f}{match[3] or ''}" if match else backbone
        if (name, int(size)) not in drawn:
            drawn.append((name, int(size)))
    return drawn


def _spread(low: float, high: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers from every part of a range, by ratio, in random order."""
    steps = (np.arange(count) + rng.uniform(size=count)) / count
    values: np.ndarray = low * (high / low) ** rng.permutation(steps)
    return values


def _order(drawn: list[list[dict[str, Any]]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Steps network by network, some of them again when others have been measured meanwhile."""
    once = [step for steps in drawn for step in steps]
    ordered: list[dict[str, Any]] = []
    for number, step in enumerate(once):
        ordered.append(step)
        if number % AGAIN == AGAIN - 1:
            ordered.append(once[int(rng.integers(max(1, number - AGAIN)))])
    return ordered
