"""A front as text: a table for the terminal, or JSON, YAML and CSV for other programs."""

from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from ..core.listing import Column, Listing
from ..core.metrics import METRICS
from ..devices.latency.caveats import show_time, time_mark
from .front import Front
from .records import Member

if TYPE_CHECKING:
    from rich.console import Group


def front_listing(front: Front) -> Listing:
    """The front as a listing: its table has what 80 columns hold, CSV all fields of the members, JSON the whole."""
    run, members = front.run, front.members
    title = (
        f"{run.dataset} on {run.device}: {run.backbone}, batch {run.batch}, "
        f"{len(members)} of {run.trials} trials, hypervolume {front.hypervolume:.3f}"
    )
    several = any(member.network for member in members)
    # What holds for every member is said once, below; a row is marked by what sets it apart.
    counts = {note: sum(note in member.warnings for member in members) for note in front.warnings}
    # Of several networks each has warnings of its own, and their names need the room.
    marked = [note for note, count in counts.items() if 0 < count < len(members) and not several]
    marks = [
        " ".join(f"[{marked.index(warning) + 1}]" for warning in member.warnings if warning in marked)
        for member in members
    ]
    notes = [f"[{marked.index(note) + 1}] {note}" if note in marked else f"note: {note}" for note in front.warnings]
    if front.recommended is not None:
        notes.insert(
            0,
            f"recommended: {_name(front.recommended)}, the least memory of those that cannot be told from the most "
            "accurate (=)",
        )
        alone = "the head alone of the same network" if several else "the head alone"
        notes.insert(1, f"gain: points of accuracy above {alone}, in which what all have in common cancels")
        notes.insert(
            2,
            "cheaper as good: probability that a member of less memory, no slower, is at least as accurate as this one",
        )
    if time_mark(front.warnings):
        notes.insert(0, "~ a time that is not fully backed by measurements, as the notes say")
    show_memory, show_saved = METRICS["peak_bytes"].show, METRICS["saved_bytes"].show
    times = [show_time(member.latency_s, member.warnings, run.latency_error) for member in members]
    gains = _gains(front)
    # As many columns, and signs, as 80 characters hold.
    named = [Column("policy", [_name(member) for member in members], wraps=False)]
    if several or not gains:
        hashes = Column("policy", [member.hash[:8] for member in members], wraps=False)
        named = [
            hashes,
            _what(front) if several else Column("method", [m.method or "found" for m in members], wraps=False),
        ]
    columns = (
        *named,
        _number(
            "accuracy %" if gains else "accuracy",
            [percent(m.accuracy, m.accuracy_se).removesuffix(" %" if gains else "") for m in members],
        ),
        *gains,
        _number("peak", [show_memory(member.peak_bytes) for member in members]),
        *([] if gains or several else [_number("saved", [show_saved(member.saved_bytes) for member in members])]),
        _number("step", times),
    )
    names = tuple(field.name for field in fields(Member))
    rows = [astuple(member) for member in members]
    return Listing(title, names, rows, notes=tuple(notes), table=columns, marks=marks, whole=front.to_dict())


def _name(member: Member) -> str:
    """What `Front.find` finds a member by: the method that it is, or the beginning of its hash."""
    return member.method or member.hash[:8]


def _what(front: Front) -> Column:
    """The network of each member, and the method that it is."""
    cells = [", ".join(filter(None, [member.network, member.method])) for member in front.members]
    return Column("network, method", cells)


def _gains(front: Front) -> list[Column]:
    """What is gained over the head alone, and how likely a cheaper member does as well; none if unknown."""
    if all(member.gain is None for member in front.members):
        return []
    gains, as_good = [], []
    for member in front.members:
        told = "" if member.gain is None else f"{100 * member.gain:+.1f} ± {100 * (member.gain_se or 0):.1f}"
        gains.append(told + (" =" if member.tied else "  "))
        as_good.append("" if member.cheaper_as_good is None else f"{100 * member.cheaper_as_good:.0f} %")
    return [_number("gain", gains), _number("cheaper\nas good", as_good)]


def front_table(front: Front) -> "Group":
    """The front as a table for a rich console; warnings are marked and listed below it."""
    return front_listing(front).draw()


def render(front: Front, form: str, *, width: int = 120) -> str:
    """Write a front as text.

    Args:
        front: The front.
        form: `table`, `json` or `yaml` (the content of front.json), or `csv` (the members).
        width: Columns of the table.

    Raises:
        InputError: There is no such form.
    """
    return front_listing(front).render(form, width)


def percent(share: float, error: float | None) -> str:
    """A share and its standard error, as "93.1 ± 0.6 %"."""
    return METRICS["accuracy"].show(share) if error is None else f"{100 * share:.1f} ± {100 * error:.1f} %"


def _number(heading: str, cells: list[str]) -> Column:
    return Column(heading, cells, number=True, wraps=False)
