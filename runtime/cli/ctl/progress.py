"""How far something has come, for whoever sits at a terminal: on standard error, and nothing where that is a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]
"""Told how much is done of all there is to do."""


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """A bar towards `total`, or a sign of life and the time where nobody knows how much it is."""
    columns = (BarColumn(), MofNCompleteColumn()) if total else (SpinnerColumn(),)
    with Progress(
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not is_watched(),
        redirect_stdout=sys.stdout.isatty(),  # what a file or a pipe is to get is not for the terminal
    ) as shown:
        task = shown.add_task(title, total=total)
        yield lambda done: shown.update(task, completed=done)


def is_watched() -> bool:
    """Somebody sits at a terminal."""
    return sys.stderr.isatty()
