"""What a person reads in a terminal."""

import pytest

from ipc.table import NAME_MAX, duration, largest_first, shown, size, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table("lrl", ["name", "n", "why"], [["a", "1", "x"], ["longer", "1000", ""]]) == (
        "name       n  why\na          1  x\nlonger  1000"
    )


def test_a_table_without_rows_is_its_titles() -> None:
    assert table("lr", ["name", "bytes"], []) == "name  bytes"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (-2048, "-2.0 KiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0.4 ms"), (12.34, "12.3 s"), (75, "1 min 15 s"), (11_520, "3 h 12 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_name_can_neither_move_the_cursor_nor_break_the_table() -> None:
    assert (
        shown("a\x1b[2Jb\nc\u202e")
        == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    )
    assert len(shown("x" * 255)) == NAME_MAX
    assert shown("Warteschlange für Grüße") == "Warteschlange für Grüße"


def test_the_largest_come_first_and_nothing_is_not_named() -> None:
    assert largest_first({"set": 10, "dict": 2048, "array": 0}, 3) == "dict 2.0 KiB, set 10 B"
    assert largest_first({"a": 3, "b": 2, "c": 1}, 2) == "a 3 B, b 2 B, …"
