"""What is printed: tables for people, JSON for scripts; data to standard output, everything else to standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from openqrm.cli.client import Json

_PIPE_WIDTH = 100_000
_LONG = 36
"""Characters of an id, which is of use only as a whole."""
_GAP = 3

Column = tuple[str, str | Callable[[Json], object]]
"""Heading, and the field's dotted path or a function of the item."""


class OutputFormat(StrEnum):
    """For whom."""

    TABLE = "table"
    JSON = "json"


class Output:
    """Prints in one format."""

    def __init__(self, output: OutputFormat) -> None:
        self.as_json = output is OutputFormat.JSON
        # Into a pipe lines go whole, however long; only a terminal has an edge.
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        self.console = Console(width=width, highlight=False)
        self.messages = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """A message for the person, never part of the data."""
        self.messages.print(escape(text), soft_wrap=True)

    def error(self, text: str) -> None:
        """What went wrong."""
        self.messages.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)

    def json(self, document: object) -> None:
        """One JSON document."""
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def line(self, document: object) -> None:
        """One JSON document on one line, at once."""
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def table(self, items: Iterable[Json], columns: Sequence[Column]) -> None:
        """A table for people: as many columns, from the left, as the terminal has room for."""
        rows = [[cell(_value(item, source)) for _, source in columns] for item in items]
        if not rows:
            self.say("There are none.")
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        shown = self._fitting([heading for heading, _ in columns], rows)
        for heading, _ in columns[:shown]:
            table.add_column(heading, no_wrap=True)
        for row in rows:
            table.add_row(*row[:shown])
        self.console.print(table)

    def _fitting(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
        """How many columns fit; a long text may be cut off, so it counts as no more than _LONG."""
        room = self.console.width
        for index, heading in enumerate(headings):
            widest = max(Text.from_markup(row[index]).cell_len for row in rows)
            room -= max(len(heading), min(widest, _LONG)) + _GAP
            if room < 0:
                return max(index, 1)
        return len(headings)

    def show(self, document: Json) -> None:
        """One thing with all its fields."""
        if self.as_json:
            self.json(document)
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in document.items():
            table.add_row(key, cell(value))
        self.console.print(table)


def _value(item: Json, source: str | Callable[[Json], object]) -> object:
    if callable(source):
        return source(item)
    value: Any = item
    for part in source.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


_COLOURS = {
    "running": "green",
    "ready": "green",
    "succeeded": "green",
    "failed": "red",
    "crashed": "red",
    "rejected": "red",
    "missing": "red",
    "unreachable": "red",
    "unknown": "yellow",
    "queued": "yellow",
    "waiting": "yellow",
}


def cell(value: object) -> str:
    """A value in a table, as Rich markup."""
    if value is None or value in ("", [], {}):
        return "[dim]-[/]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        colour = _COLOURS.get(value)
        return f"[{colour}]{value}[/]" if colour else escape(value)
    if isinstance(value, list):
        return "\n".join(escape(_compact(part)) for part in value)
    if isinstance(value, dict):
        return escape(_compact(value))
    return escape(str(value))


def _compact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_compact(part)}" for key, part in value.items() if part not in (None, [], {}, ""))
    if isinstance(value, list):
        return " ".join(_compact(part) for part in value)
    return str(value)
