"""A listing: rows of named values, printed as a table, JSON, YAML or CSV."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .metrics import METRICS
from .text import printable

if TYPE_CHECKING:
    from rich.console import Group

#: What a listing can be printed as.
FORMS = ("table", "json", "yaml", "csv")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: What stands above it.
        cells: Its texts.
        number: Whether they are numbers, which stand at the right.
        wraps: Whether a text may go on in a second line.
    """

    heading: str
    cells: Sequence[str]
    number: bool = False
    wraps: bool = True


@dataclass(frozen=True)
class Listing:
    """Rows to print.

    A column that bears the name of a metric is written as the metric is, unless `show` says otherwise.

    Attributes:
        title: Headline of the table; other forms leave it out.
        columns: Names, which are keys in JSON and YAML.
        rows: Values in the order of the columns, in base units.
        show: By column, how the table writes a value.
        notes: Lines below the table.
        table: The table's columns, where they are others than those of the rows.
        marks: By row, what the table writes behind its first cell; a row that has a mark is coloured.
        whole: What JSON and YAML hold, where that is more than the rows.

    Example:
        >>> print(Listing("", ("name", "peak_bytes"), [("a", 2048)]).render("csv"), end="")
        name,peak_bytes
        a,2048
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    show: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    table: tuple[Column, ...] = ()
    marks: Sequence[str] = ()
    whole: Any = None

    def render(self, form: str, width: int = 120) -> str:
        """The listing as text, with a closing line break.

        Args:
            form: table, json, yaml or csv.
            width: Columns of the terminal, for a table.

        Raises:
            InputError: There is no such form.
        """
        if form == "table":
            return self._text(width)
        if form == "csv":
            return self._csv()
        records = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        content = records if self.whole is None else self.whole
        if form == "json":
            return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if form == "yaml":
            import yaml

            return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        raise InputError(f"no format {form!r}: use one of {', '.join(FORMS)}")

    def draw(self) -> "Group":
        """The table with its notes, for a console of rich."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(printable(self.title)), title_justify="left")
        columns = self.table or tuple(self._column(place) for place in range(len(self.columns)))
        for column in columns:
            justify = "right" if column.number else "left"
            table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=not column.wraps)  # type: ignore[arg-type]
        for number in range(len(self.rows)):
            mark = self.marks[number] if self.marks else ""
            first, *others = (column.cells[number] for column in columns)
            # Text, not str: names come from files and must not be read as markup.
            cells = [Text(printable(cell)) for cell in (f"{first} {mark}".rstrip(), *others)]
            table.add_row(*cells, style="yellow" if mark else "")
        return Group(table, *(Text(printable(note)) for note in self.notes))

    def _text(self, width: int) -> str:
        from rich.console import Console

        stream = io.StringIO()
        Console(file=stream, width=width).print(self.draw())
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"

    def _csv(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow("; ".join(map(str, value)) if isinstance(value, list | tuple) else value for value in row)
        return stream.getvalue()

    def _column(self, place: int) -> Column:
        name, values = self.columns[place], [row[place] for row in self.rows]
        metric = METRICS.get(name)
        show = self.show.get(name, metric.show if metric else None)
        number = any(isinstance(value, int | float) for value in values)
        return Column(_heading(name), [_cell(value, show) for value in values], number, wraps=bool(place))


def _cell(value: Any, show: Callable[[Any], str] | None) -> str:
    """A value as text; nothing for one that is missing, and for a zero that is a plain number."""
    if value is None or value == "" or (value == 0 and show is None):
        return ""
    return str(value) if show is None else show(value)


def _heading(column: str) -> str:
    """A column's name without its unit, which the cells carry."""
    for unit in ("_bytes", "_s", "_j", "_percent"):
        column = column.removesuffix(unit)
    return column.replace("_", " ")
