"""Tables for a terminal: columns as wide as their widest cell, and sizes and times as people read them."""

from collections.abc import Iterable, Sequence
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
NAME_MAX: Final = 60  # characters of a name that are shown


def table(columns: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines below a line of titles; `columns` has a letter for each: `l` for text, `r` for numbers."""
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(_aligned, columns, line, widths)).rstrip() for line in lines)


def _aligned(column: str, cell: str, width: int) -> str:
    return cell.ljust(width) if column == "l" else cell.rjust(width)


def size(count: int) -> str:
    """`1.5 MiB`; negative numbers keep their sign."""
    sign, left = ("-", -count) if count < 0 else ("", count)
    number = float(left)
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{sign}{number:.0f} {unit}" if unit == "B" else f"{sign}{number:.1f} {unit}"


def duration(seconds: float) -> str:
    """`0.4 ms`, `12.3 s`, `3 h 12 min`: as exact as it is worth."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def shown(name: str) -> str:
    """A name that others have chosen, so that it can neither break a table nor move a cursor."""
    safe = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return safe if len(safe) <= NAME_MAX else safe[: NAME_MAX - 1] + "…"


def largest_first(by_name: dict[str, int], count: int) -> str:
    """`dict 1.5 MiB, set 20.0 KiB, …` with what is not nothing."""
    found = sorted(((size_bytes, name) for name, size_bytes in by_name.items() if size_bytes), reverse=True)
    named = [f"{shown(name)} {size(size_bytes)}" for size_bytes, name in found[:count]]
    return ", ".join([*named, *(["…"] if len(found) > count else [])])
