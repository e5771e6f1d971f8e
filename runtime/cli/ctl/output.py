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
from runtime.cli.ctl.columns import CONSTANTS, IN_JSON, OTHER_NAMES, RABBITMQS

Format: TypeAlias = Literal["text", "json", "csv", "pretty_table", "table"]
FORMATS: Final = ("text", "json", "csv", "pretty_table", "table")

Document = dict[str, Any]


class Output:
    """Of one command; `is_quiet` leaves out everything but the answer, `is_silent` the names of columns as well."""

    def __init__(self, form: Format | None) -> None:
        self.form = form
        self.is_quiet = False
        self.is_silent = False
        self.has_headers = True

    def note(self, sentence: str) -> None:
        """What is being done."""
        if not self.is_quiet and not self.is_silent and self.form in (None, "text", "table", "pretty_table"):
            # Not by click, which goes past the stream that puts it above a bar.
            print(sentence, flush=True)

    def rows(self, documents: Iterable[Document], columns: Sequence[str]) -> None:
        """A line for each. Raises click.UsageError for a column that none of them has and nobody knows."""
        known = list(documents)
        _require_known(columns, known)
        found = [{column: field(document, column) for column in columns} for document in known]
        form = self.form or ("pretty_table" if sys.stdout.isatty() else "text")
        if form == "json":
            click.echo(json.dumps([_as_json(row) for row in found], indent=2, ensure_ascii=False))
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

    @property
    def _shows_headers(self) -> bool:
        return self.has_headers and not self.is_silent

    def _tabbed(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        if found and self._shows_headers:
            click.echo("\t".join(columns))
        for row in found:
            click.echo("\t".join(cell(column, row[column]) for column in columns))

    def _csv(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        if self._shows_headers:
            lines.writerow(columns)
        lines.writerows([cell(column, row[column]) for column in columns] for row in found)
        click.echo(written.getvalue(), nl=False)

    def _pretty(self, found: Sequence[Document], columns: Sequence[str]) -> None:
        lines = Table(show_header=self._shows_headers)
        for column in columns:
            is_number = all(
                isinstance(row[column], (int, float)) and not isinstance(row[column], bool) for row in found
            )
            lines.add_column(column, justify="right" if found and is_number else "left", overflow="fold")
        for row in found:
            lines.add_row(*(Text(shown(cell(column, row[column]))) for column in columns))
        Console(soft_wrap=False).print(lines)


def field(document: Document, path: str) -> Any:
    """What stands in a column, dotted where it lies in another; also by rabbitmqctl's name for it."""
    if path in CONSTANTS and path not in document:
        return CONSTANTS[path]
    found: Any = document
    for name in (path if path in document else OTHER_NAMES.get(path, path)).split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _require_known(columns: Sequence[str], documents: Sequence[Document]) -> None:
    """A typing error is not a column of nothing; where there is nothing to list, it is."""
    names = {*OTHER_NAMES, *CONSTANTS, *RABBITMQS}
    for column in columns:
        first = column.partition(".")[0]
        if documents and column not in names and not any(first in document for document in documents):
            raise click.UsageError(f"there is no column {column!r}")


def _as_json(row: Document) -> Document:
    """What is JSON already is a text that holds it, as with rabbitmqctl, and not part of the document."""
    return {name: cell(name, value) if name in IN_JSON else value for name, value in row.items()}


def cell(column: str, value: Any) -> str:
    """A field as rabbitmqctl prints it: terms of Erlang, but JSON where that is what was given."""
    if column in IN_JSON and value is not None:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text(value)


def text(value: Any) -> str:
    """`[administrator]` for tags, `[{"x-max-length",5}]` for arguments, and nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return f"[{', '.join(value)}]"
    return str(value) if isinstance(value, str) else _term(value)


def _term(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "[" + ",".join("{" + f"{_term(name)},{_term(inner)}" + "}" for name, inner in value.items()) + "]"
    if isinstance(value, list):
        return "[" + ",".join(map(_term, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
