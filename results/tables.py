"""A front as text: a table for the terminal, or JSON, YAML and CSV for other programs."""

import csv
import io
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..core.errors import InputError
from ..core.units import format_bytes
from ..devices.latency.caveats import show_time, time_mark
from .front import Front
from .records import Member

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["table", "json", "yaml", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)


def front_table(front: Front) -> "Table":
    """The front as a table for a rich console; warnings are marked and listed below it."""
    from rich.table import Table
    from rich.text import Text

    run = front.run
    table = Table(
        title=Text(
            f"{run.dataset} on {run.device}: {run.backbone}, batch {run.batch}, "
            f"{len(front.members)} of {run.trials} trials, hypervolume {front.hypervolume:.3f}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("policy", "method"):
        table.add_column(heading, no_wrap=True)
    for heading in ("accuracy", "peak", "saved", "step"):  # what 80 columns hold; other formats have all
        table.add_column(heading, justify="right", no_wrap=True)
    notes = front.warnings
    # What holds for every member is said once, below; a row is marked by what sets it apart.
    marked = [note for note in notes if not all(note in member.warnings for member in front.members)]
    for member in front.members:
        marks = [f"[{marked.index(warning) + 1}]" for warning in member.warnings if warning in marked]
        cells = [
            " ".join([member.hash[:8], *marks]),
            member.method or "found",
            percent(member.accuracy, member.accuracy_se),
            format_bytes(member.peak_bytes),
            format_bytes(member.saved_bytes),
            show_time(member.latency_s, member.warnings, run.latency_error),
        ]
        # Text, not str: names come from files and must not be read as markup.
        table.add_row(*(Text(cell) for cell in cells), style="yellow" if marks else "")
    if notes:
        lines = [f"[{marked.index(note) + 1}] {note}" if note in marked else f"note: {note}" for note in notes]
        if time_mark(notes):
            lines.insert(0, "~ a time that is not fully backed by measurements, as the notes say")
        table.caption = Text("\n".join(lines))
    return table


def render(front: Front, form: str, *, width: int = 120) -> str:
    """Write a front as text.

    Args:
        front: The front.
        form: `table`, `json` or `yaml` (the content of front.json), or `csv` (the members).
        width: Columns of the table.

    Raises:
        InputError: There is no such form.
    """
    if form == "table":
        return _table(front, width)
    if form == "json":
        return front.to_json()
    if form == "yaml":
        import yaml

        text: str = yaml.safe_dump(front.to_dict(), sort_keys=False, allow_unicode=True)
        return text
    if form == "csv":
        return _csv(front)
    raise InputError(f"no format {form!r}: use one of {', '.join(FORMATS)}")


def percent(share: float, error: float | None) -> str:
    """A share and its standard error, as "93.1 ± 0.6 %"."""
    return f"{100 * share:.1f} %" if error is None else f"{100 * share:.1f} ± {100 * error:.1f} %"


def _table(front: Front, width: int) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(front_table(front))
    return stream.getvalue()


def _csv(front: Front) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Member)], lineterminator="\n")
    writer.writeheader()
    for member in front.members:
        row: dict[str, Any] = asdict(member)
        writer.writerow(row | {"warnings": "; ".join(member.warnings)})
    return stream.getvalue()
