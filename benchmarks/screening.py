"""The front of an additive score, found by screening, by drawing and by evolution at as many costed policies.

Run: OMP_NUM_THREADS=1 python benchmarks/screening.py

MobileNetV2-w0.35 at 96 px, a score of drawn positive values. For each way: the share of the box between the head alone
and all that trains which the front dominates (hypervolume of score, memory and latency), seconds, and the best score at
the memory and latency of each published method. `drawn and moved` is the search by hand of the project's first study:
40,000 draws, then small changes of the front. `evolution` breeds from the front: parts of two members, cut at a
segment, and a few genes changed; that is the crossover of the sampler `nsga2`, which itself was not run with so many
policies. The bound is checked against all that was found.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from tinysearch.devices.costs import Costs, cost_rows
from tinysearch.devices.profile import load_device
from tinysearch.results.limits import Limits
from tinysearch.results.pareto import hypervolume
from tinysearch.search.screening import screen
from tinysearch.search.screening.candidates import CandidateFront
from tinysearch.search.screening.rounds import BUDGET
from tinysearch.search.screens.base import AdditiveScore
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.methods import named
from tinysearch.spaces.space import Genotypes, UpdateSpace
from tinysearch.spaces.trace import trace

DEVICES, SEEDS = ("rpi4", "cortex-m7-int8"), (0, 1, 2)
#: Policies of the first draw, and of a generation.
FIRST, GENERATION = 40_000, 4000
Cost = Callable[[Genotypes], Costs]
Way = Callable[[UpdateSpace, CandidateFront, np.random.Generator], None]


def scored(space: UpdateSpace, rows: Genotypes) -> Genotypes:
    """Rows without what no screen can score: lite modules, sign masks and statistics."""
    rows = rows.copy()
    rows[:, [gene.kind in ("lite", "sign", "statistics") for gene in space.genes]] = 0
    return rows


def drawn(space: UpdateSpace, front: CandidateFront, rng: np.random.Generator) -> None:
    """Policies of `UpdateSpace.sample`."""
    front.add(scored(space, space.sample(BUDGET, int(rng.integers(1 << 30)))))


def drawn_and_moved(space: UpdateSpace, front: CandidateFront, rng: np.random.Generator) -> None:
    """Draws, and then one to three genes of the front's members changed."""
    front.add(scored(space, space.sample(FIRST, int(rng.integers(1 << 30)))))
    while front.seen < BUDGET:
        members = front.members.rows
        front.add(changed(space, members[rng.integers(len(members), size=GENERATION)], rng))


def evolution(space: UpdateSpace, front: CandidateFront, rng: np.random.Generator) -> None:
    """A first generation of draws, and then children of two members of the front."""
    front.add(scored(space, space.sample(GENERATION, int(rng.integers(1 << 30)))))
    starts = np.array([min(segment.positions) for segment in space.segments])
    while front.seen < BUDGET:
        members = front.members.rows
        one, two = members[rng.integers(len(members), size=(2, GENERATION))]
        cut = rng.choice(starts, GENERATION)
        front.add(changed(space, np.where(np.arange(len(space)) < cut[:, None], one, two), rng))


def changed(space: UpdateSpace, rows: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Policies with one to three genes drawn anew."""
    hit = rng.random(rows.shape).argsort(1) < rng.integers(1, 4, len(rows))[:, None]
    return scored(space, np.where(hit, rng.integers(0, space.levels, rows.shape), rows))


def compare(space: UpdateSpace, score: AdditiveScore, device: str) -> None:
    """Print the table of a device."""
    profile = load_device(device)

    def cost(rows: Genotypes) -> Costs:
        return cost_rows(space, rows, profile)

    ends = CandidateFront(space, score, cost, Limits())
    ends.add(scored(space, np.stack([np.zeros(len(space), np.int64), space.levels - 1])))
    least, most = ends.members.objectives.max(0), ends.members.objectives.min(0)
    published = {name: space.encode(policy) for name, policy in named(space.trace).items()}
    costs, own = cost(np.stack([*published.values()])), score(space.table(np.stack([*published.values()])))
    published_costs = list(zip(costs.peak_bytes, costs.latency_s, strict=True))
    columns, volumes, seconds = {"published": own}, {}, {}
    ways: dict[str, Way] = {"drawn": drawn, "drawn and moved": drawn_and_moved, "evolution": evolution}
    fronts = {}
    for name, way in ways.items():
        every = []
        begun = time.perf_counter()
        for seed in SEEDS:
            front = CandidateFront(space, score, cost, Limits())
            way(space, front, np.random.default_rng(seed))
            every.append(front.members.objectives)
        seconds[name], fronts[name] = (time.perf_counter() - begun) / len(SEEDS), every
    screens = [screen(space, score, cost, Limits(), seed=seed) for seed in SEEDS]
    seconds["screen"] = float(np.mean([found.seconds for found in screens]))
    fronts["screen"] = [np.column_stack([-f.scores, f.memory_bytes, f.latency_s]) for f in screens]
    for name, every in fronts.items():
        volumes[name] = np.mean([hypervolume(points, least, most) for points in every])
        columns[name] = np.mean([[best(points, *at) for at in published_costs] for points in every], 0)
    print(f"\n{device}: {BUDGET:,} policies each, mean of {len(SEEDS)} seeds")
    print(f"{'':28}" + "".join(f"{name:>16}" for name in columns))
    print(f"{'hypervolume':28}{'':16}" + "".join(f"{value:16.4f}" for value in volumes.values()))
    print(f"{'seconds':28}{'':16}" + "".join(f"{value:16.1f}" for value in seconds.values()))
    for place, name in enumerate(published):
        label = f"{name:16}{costs.peak_bytes[place] / 1024:7,.0f} KiB "
        print(f"{label:28}" + "".join(f"{column[place]:16.1f}" for column in columns.values()))
    gaps = np.concatenate([found.gaps for found in screens])
    print("gap to the bound: " + ", ".join(f"{q:.0%} of members {np.quantile(gaps, q):.1%}" for q in (0.5, 0.9, 0.99)))
    above = 0
    for found in screens:
        bounds = found.scores[found.checked] / (1 - found.gaps)
        at = zip(found.memory_bytes[found.checked], found.latency_s[found.checked], bounds, strict=True)
        others = np.concatenate([points for every in fronts.values() for points in every])
        above += sum(best(others, memory, latency) > bound * (1 + 1e-9) for memory, latency, bound in at)
    print(f"bounds that something found in any way lies above: {above} of {len(gaps)}")


def best(points: np.ndarray, memory: float, latency: float) -> float:
    """The highest score at no more memory and latency."""
    fits = (points[:, 1] <= memory) & (points[:, 2] <= latency)
    return float(-points[fits, 0].min(initial=0))


def main() -> None:
    """Print the tables of the devices."""
    torch.set_num_threads(1)
    space = UpdateSpace(trace(load_backbone("mobilenetv2-w0.35", input_size=96), (3, 96, 96)))
    rows = len(space.trace.rows)
    plain = [row not in {r for block in space.trace.blocks for r in block.lite} for row in range(rows)]
    weight, bias, scale = np.random.default_rng(1).lognormal(size=(3, rows)) * plain
    score = AdditiveScore(space.trace, 2 * weight, 0.5 * bias, 0.7 * scale)
    for device in DEVICES:
        compare(space, score, device)


if __name__ == "__main__":
    main()
