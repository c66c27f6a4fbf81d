"""A profile from the results of a calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..profile import DeviceProfile
from ..profile.kernels import COARSE, FitError, Kernel, Latency, Validity
from ..profile.model import Dtypes, Flash, Memory, Power, WorkingSet
from ..profile.quantities import Sourced
from ..working_set import working_set_parts
from .fit import confidence, fit_error, fit_latency, held_out, relative_nnls
from .results import Growth, Machine, Results, Traces, disturbance, growths, repeatability, samples

#: Least processes that the working set is fitted to; it has four coefficients.
LEAST_GROWTHS = 6
#: Degrees Celsius from which small boards begin to lower their clock.
HOT = 75.0
#: Governors under which the clock is as high as it gets while a step runs.
STEADY = ("performance",)
#: Percent by which a second measurement may differ before it is told.
UNSTEADY = 10.0
#: Percent by which steps may take longer as a rule than at their fastest before it is told.
DISTURBED = 15.0


@dataclass(frozen=True)
class Calibration:
    """A profile and how it came about.

    Attributes:
        profile: The profile.
        memory_error: Mean error of the growth of the process, in percent; None where it was not measured.
        warnings: What may make the numbers wrong, in words.
    """

    profile: DeviceProfile
    memory_error: float | None
    warnings: tuple[str, ...]


def make_profile(results: Results, name: str, origin: str) -> Calibration:
    """Fit a profile to what was measured.

    Args:
        results: What was measured.
        name: The profile's identifier.
        origin: Of the results, for messages.

    Raises:
        InputError: The results are too few, or are for networks that cannot be built.
    """
    machine, jobs = results.machine, results.jobs
    source = f"measured by tinysearch calibrate, {len(results.steps)} training steps"
    traces = Traces(jobs, origin)
    measured = samples(results, traces)
    base = _base(results, name, source)
    latency = fit_latency(measured, base, source)
    predicted, truth = held_out(measured, base)
    error: FitError | None = None
    if len(predicted):
        error = fit_error(
            predicted,
            truth,
            of="whole training steps of random policies, each network (width and resolution) left out of its fit",
            source=source,
            repeatability=repeatability(results),
        )
    latency = latency.model_copy(update={"error": error, "confidence": confidence(error)})
    grown = growths(results, traces)
    memory, memory_error = _memory(grown, base, source)
    profile = base.model_copy(update={"latency": latency, "memory": memory})
    # Checked anew as a whole, as a file's content would be.
    profile = DeviceProfile.model_validate(profile.model_dump())
    return Calibration(profile, memory_error, tuple(_warnings(results, error, machine)))


def _base(results: Results, name: str, source: str) -> DeviceProfile:
    """Everything but what is fitted."""
    machine, jobs = results.machine, results.jobs
    nothing = Kernel(overhead=0.0, source=source)
    phase = dict.fromkeys(COARSE, nothing)
    one = Sourced(value=1.0, source=source)
    baseline = [entry.baseline for entry in results.memory if entry.baseline is not None]
    free = max(1, min(machine.available, machine.memory)) if machine.memory else 2**30
    return DeviceProfile(
        name=name,
        description=_description(results),
        runtime=_runtime(results),
        batch=jobs.batch,
        optimizer=jobs.optimizer,
        memory=Memory(
            kind="eager",
            capacity=Sourced(value=machine.memory or 2**30, source="/proc/meminfo", assumed=not machine.memory),
            budget=Sourced(value=free, source="what was free when it was measured", assumed=not machine.memory),
            baseline=Sourced(value=round(median(baseline)), source=source)
            if baseline
            else Sourced(value=300 * 2**20, source="a Python process with PyTorch imported", assumed=True),
            dtypes=Dtypes(activation=4, frozen=4, trained=4, gradient=4),
        ),
        flash=Flash(
            capacity=Sourced(value=machine.disk, source="the file system that it was measured on"),
            code=Sourced(value=0, source="the framework is installed apart"),
        ),
        latency=Latency(
            forward=phase,
            dx=phase,
            dw=phase,
            update=nothing,
            forward_scale=one,
            backward_scale=one,
            constant=Sourced(value=0.0, source=source),
            fused=False,
            confidence="low",
            valid=Validity(batch=(jobs.batch, jobs.batch), macs=(1.0, 1e15)),
        ),
        power=Power(
            idle=Sourced(value=2.0, source="no meter was read: put in your own", assumed=True),
            active=Sourced(value=5.0, source="no meter was read: put in your own", assumed=True),
        ),
    )


def _description(results: Results) -> str:
    machine = results.machine
    parts = [machine.processor, f"{machine.cores} cores", f"governor {machine.governor or 'not told'}"]
    if machine.temperature is not None:
        after = results.temperature_after
        parts.append(f"{machine.temperature:.0f} C before" + (f", {after:.0f} C after" if after is not None else ""))
    parts.append(f"load {machine.load:.2f} before")
    if results.steps:
        parts.append(f"steps take {disturbance(results):.0f} % longer as a rule than at their fastest")
    return ", ".join(parts)


def _runtime(results: Results) -> str:
    layers = "tinysearch's layers" if results.jobs.layers == "tinysearch" else "PyTorch's own layers"
    threads = f"{results.threads} thread" + ("s" if results.threads > 1 else "")
    allocator = "freed memory kept (mallopt)" if results.freed_memory_kept else "the system's allocator as it is"
    stated = "".join(f", {key}={value}" for key, value in sorted(results.machine.allocator.items()))
    where = "" if results.device == "cpu" else f" on {results.device}"
    return f"PyTorch {results.torch}{where}, eager fp32, {layers}, {threads}, {allocator}{stated}"[:500]


def _memory(grown: Sequence[Growth], base: DeviceProfile, source: str) -> tuple[Memory, float | None]:
    """The memory with its constants, and their mean error on policies left out one by one."""
    if len(grown) < LEAST_GROWTHS:
        return base.memory, None
    design = np.concatenate([working_set_parts(one.table, base, base.batch, base.optimizer) for one in grown])
    growth = np.array([float(one.growth) for one in grown])
    errors = []
    for out in range(len(grown)):
        rest = np.arange(len(grown)) != out
        solution = relative_nnls(design[rest], growth[rest])
        errors.append(abs(float(design[out] @ solution) - growth[out]) / growth[out])
    peak, saved, largest, constant = relative_nnls(design, growth).tolist()
    factors = WorkingSet(
        peak=round(peak, 3), saved=round(saved, 3), largest=round(largest, 3), constant=round(constant), source=source
    )
    memory = base.memory.model_copy(update={"working_set": factors})
    return memory, round(100 * sum(errors) / len(errors), 1)


def _warnings(results: Results, error: FitError | None, machine: Machine) -> list[str]:
    found = []
    if machine.governor and machine.governor not in STEADY:
        found.append(f"the clock's governor is {machine.governor}: with performance times repeat better")
    hottest = max((t for t in (machine.temperature, results.temperature_after) if t is not None), default=0.0)
    if hottest >= HOT:
        found.append(f"{hottest:.0f} C were reached: a board that hot may lower its clock")
    if not results.freed_memory_kept:
        found.append("the allocator could not be told to keep freed memory: page faults are part of the times")
    if error is None:
        found.append("too few networks were measured to hold any out: the error is not known")
    elif error.repeatability is not None and error.repeatability > UNSTEADY:
        found.append(f"a second measurement differs by {error.repeatability:.1f} %: is the machine busy?")
    if (slower := disturbance(results)) > DISTURBED:
        found.append(f"steps take {slower:.0f} % longer as a rule than at their fastest: others share this machine")
    if results.jobs.layers == "plain":
        found.append("measured with PyTorch's own layers: weights that train in part are charged by their share")
    return found
