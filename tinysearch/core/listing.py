"""A listing: rows of named values, printed as a table, JSON, YAML or CSV."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Listing:
    """Rows to print.

    Attributes:
        title: Headline of the table; other formats leave it out.
        columns: Names, which are keys in JSON and YAML.
        rows: Values in the order of the columns, in base units.
        show: By column, how the table writes a value.
        notes: Lines below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    show: Mapping[str, Callable[[Any], str]]
    notes: tuple[str, ...] = ()

    def render(self, form: str, width: int = 120) -> str:
        """The listing as text, with a closing line break.

        Args:
            form: table, json, yaml or csv.
            width: Columns of the terminal, for a table.
        """
        records = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        if form == "json":
            return json.dumps(records, indent=1) + "\n"
        if form == "yaml":
            import yaml

            return str(yaml.safe_dump(records, sort_keys=False, allow_unicode=True))
        if form == "csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
            return text.getvalue()
        return self._table(width)

    def _table(self, width: int) -> str:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.title), title_justify="left")
        for place, column in enumerate(self.columns):
            number = any(isinstance(row[place], int | float) for row in self.rows)
            table.add_column(
                _heading(column), justify="right" if number else "left", overflow="fold", no_wrap=not place
            )
        for row in self.rows:
            cells = (self._cell(column, value) for column, value in zip(self.columns, row, strict=True))
            table.add_row(*(Text(cell) for cell in cells))
        console = Console(file=io.StringIO(), width=width)
        console.print(table)
        for note in self.notes:
            console.print(Text(note))
        output = console.file
        assert isinstance(output, io.StringIO)
        return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"

    def _cell(self, column: str, value: Any) -> str:
        if value is None or value == "" or value == 0:
            return "" if value != 0 or column not in self.show else self.show[column](0)
        return self.show.get(column, str)(value)


def _heading(column: str) -> str:
    """A column's name without its unit, which the cells carry."""
    for unit in ("_bytes", "_s", "_j", "_percent"):
        column = column.removesuffix(unit)
    return column.replace("_", " ")
