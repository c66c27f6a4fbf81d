"""What the command line prints of accountings: methods, a policy, or a run's front as a paper counts them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.listing import Listing
from ..core.units import format_bytes
from ..devices.accountings import ACCOUNTINGS, Account, Accounting
from ..devices.breakdown import PolicyCost
from ..devices.costs import cost_table
from ..results.rundir import RunDirectory
from ..results.tables import percent
from ..search.problem import Problem
from ..spaces import methods
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace


def of_methods(trace: Trace, rules: Accounting, batch: int) -> Listing:
    """The methods with the columns that a paper prints; TinyTrain's baseline LastLayer is among them.

    Raises:
        InputError: The batch is not positive.
    """
    if batch < 1:
        raise InputError(f"a batch of {batch} holds no sample: use 1 or more")
    policies = methods.named(trace, seeds=False)
    assert rules.count is not None
    account = rules.count(UpdateTable.of(trace, list(policies.values())), batch)
    title = f"{trace.name} at {trace.input_shape[1]} px, batch {batch}, accounting {rules.name}"
    return _listing(title, {"method": list(policies)}, account, rules)


def of_run(run_dir: Path, accounting: str, data_dir: Path | None) -> Listing:
    """The front of a run by an accounting.

    Raises:
        InputError: There is no such run or accounting, or what the run was searched with is not there any more.
        MissingDataError: The run's data set is not there; its classes decide the size of the head.
    """
    rules = ACCOUNTINGS.load(accounting)
    run = RunDirectory.load(run_dir)
    problem = Problem.of_run(run, data_dir, for_costs=True)
    members = run.front.members
    names: dict[str, Sequence[Any]] = {
        "policy": [member.hash[:8] for member in members],
        "method": [member.method or "found" for member in members],
        "accuracy": [percent(member.accuracy, member.accuracy_se) for member in members],
    }
    table = UpdateTable.of(problem.trace, [UpdatePolicy.load(run.policy_path(member)) for member in members])
    title = f"{run_dir}: {problem.trace.name}, batch {problem.batch}, accounting {accounting}"
    if rules.count is not None:
        return _listing(title, names, rules.count(table, problem.batch), rules)
    costs = cost_table(table, problem.device, batch=problem.batch, accounting=accounting)
    columns = {**names, "peak_bytes": costs.peak_bytes.tolist(), "saved_bytes": costs.saved_bytes.tolist()}
    shown = {"peak_bytes": format_bytes, "saved_bytes": format_bytes}
    return Listing(title, tuple(columns), list(zip(*columns.values(), strict=True)), shown)


def memory_line(cost: PolicyCost, rules: Accounting) -> str:
    """A policy's memory in words."""
    if rules.count is None:
        return f"saved {format_bytes(cost.saved_bytes)}, peak {format_bytes(cost.peak_bytes)} at the {cost.peak_at}"
    show = _shown(cost.parts, rules)
    parts = (f"{name.removesuffix('_bytes').replace('_', ' ')} {show[name](x)}" for name, x in cost.parts.items())
    return f"memory {rules.format(cost.peak_bytes)} ({', '.join(parts)})"


def rules_lines(rules: Accounting) -> tuple[str, ...]:
    """Where a paper's rules come from and what to beware of."""
    return () if rules.count is None else (f"{rules.source}: {rules.summary}.", f"Beware: {rules.caveat}.")


def macs(value: float) -> str:
    """Work in millions, nothing for none."""
    return f"{value / 1e6:.4g} M" if value else ""


def _listing(title: str, names: Mapping[str, Sequence[Any]], account: Account, rules: Accounting) -> Listing:
    counted = {**account.parts, "memory_bytes": account.total}
    columns = {**names, **{name: values.tolist() for name, values in counted.items()}}
    rows = list(zip(*columns.values(), strict=True))
    return Listing(title, tuple(columns), rows, _shown(counted, rules), rules_lines(rules))


def _shown(names: Iterable[str], rules: Accounting) -> dict[str, Callable[[float], str]]:
    """How values are written: bytes in the paper's unit, work in millions, counts in full."""

    def show(name: str) -> Callable[[float], str]:
        if name.endswith("_bytes"):
            return rules.format
        return macs if name.endswith(("_macs", "_flops")) else lambda value: f"{value:,}"

    return {name: show(name) for name in names}
