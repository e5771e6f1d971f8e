"""How lists come out: a table for people, tabs for pipes as rabbitmqctl prints them, JSON or CSV when asked."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipc.table import shown

Format: TypeAlias = Literal["text", "json", "csv", "pretty_table", "table"]
FORMATS: Final = ("text", "json", "csv", "pretty_table", "table")

Document = dict[str, Any]


class Output:
    """Of one command; `is_quiet` leaves out everything but the answer."""

    def __init__(self, form: Format | None, *, is_quiet: bool = False, has_headers: bool = True) -> None:
        self.form = form
        self.is_quiet = is_quiet
        self.has_headers = has_headers

    def note(self, sentence: str) -> None:
        """What is being done."""
        if not self.is_quiet and self.form in (None, "text", "table", "pretty_table"):
            click.echo(sentence)

    def rows(self, documents: Iterable[Document], columns: Sequence[str]) -> None:
        """A line for each."""
        found = [{column: field(document, column) for column in columns} for document in documents]
        form = self.form or ("pretty_table" if sys.stdout.isatty() else "text")
        if form == "json":
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        elif form == "csv":
            self._csv(found, columns)
        elif form == "pretty_table":
            self._pretty(found, columns)
        else:
            self._tabbed(found, columns)

    def document(self, document: Any) -> None:
        """One thing: as JSON, or a line for each of its fields."""
        if self.form == "json" or not isinstance(document, dict):
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
            return
        width = max((len(name) for name in document), default=0)
        for name, value in document.items():
            click.echo(f"{name.ljust(width)}  {text(value)}")

    def _tabbed(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        if self.has_headers and not self.is_quiet:
            click.echo("\t".join(columns))
        for row in found:
            click.echo("\t".join(text(row[column]) for column in columns))

    def _csv(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        if self.has_headers:
            lines.writerow(columns)
        lines.writerows([text(row[column]) for column in columns] for row in found)
        click.echo(written.getvalue(), nl=False)

    def _pretty(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        lines = Table(show_header=self.has_headers)
        for column in columns:
            is_number = all(
                isinstance(row[column], (int, float)) and not isinstance(row[column], bool) for row in found
            )
            lines.add_column(column, justify="right" if found and is_number else "left", overflow="fold")
        for row in found:
            lines.add_row(*(Text(shown(text(row[column]))) for column in columns))
        Console(soft_wrap=False).print(lines)


def field(document: Document, path: str) -> Any:
    """What stands in a column, dotted where it lies in another; also by rabbitmqctl's name for it."""
    found: Any = document
    for name in (path if path in document else _OTHER_NAMES.get(path, path)).split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


# rabbitmqctl's names of columns, and where the API has them.
_OTHER_NAMES: Final = {
    "pid": "name",
    "source_name": "source",
    "destination_name": "destination",
    "destination_kind": "destination_type",
    "queue_name": "queue.name",
    "owner_pid": "owner_pid_details.name",
    "connection": "connection_details.name",
    "channel_pid": "channel_details.name",
}


def text(value: Any) -> str:
    """A field as rabbitmqctl prints it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False) if value else "[]"
    return str(value)
