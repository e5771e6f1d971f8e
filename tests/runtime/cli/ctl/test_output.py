"""How fields come out, and which sizes are understood."""

from typing import Any

import click
import pytest

from runtime.cli.ctl.output import Output, cell, text
from runtime.cli.ctl.units import Size, in_unit


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, ""),
        (True, "true"),
        (0, "0"),
        (1.5, "1.5"),
        ("a name", "a name"),
        ([], "[]"),
        ({}, "[]"),
        (["a", "b"], "[a, b]"),
        ({"n": 1, "s": "x", "t": True}, '[{"n",1},{"s","x"},{"t",true}]'),
        ({"l": [1, "a"], "t": {"u": None}}, '[{"l",[1,"a"]},{"t",[{"u",null}]}]'),
        ({"ü": "\n"}, '[{"ü","\\n"}]'),
    ],
)
def test_a_field_is_printed_as_rabbitmqctl_prints_it(value: Any, printed: str) -> None:
    assert text(value) == printed


def test_what_was_given_as_json_comes_out_as_it() -> None:
    assert cell("definition", {"max-length": 7}) == '{"max-length":7}'
    assert cell("value", "a text") == '"a text"'
    assert cell("limits", None) == ""
    assert cell("arguments", {"max-length": 7}) == '[{"max-length",7}]'


@pytest.mark.parametrize(
    ("form", "printed"),
    [
        ("text", "a\tb.c\n1\t2\n\t\n"),
        ("table", "a\tb.c\n1\t2\n\t\n"),
        ("csv", "a,b.c\n1,2\n,\n"),
        ("json", '[\n  {\n    "a": 1,\n    "b.c": 2\n  },\n  {\n    "a": null,\n    "b.c": null\n  }\n]\n'),
    ],
)
def test_rows_come_out_in_every_format(capsys: pytest.CaptureFixture[str], form: Any, printed: str) -> None:
    Output(form).rows([{"a": 1, "b": {"c": 2}}, {}], ("a", "b.c"))
    assert capsys.readouterr().out == printed


def test_above_nothing_stand_no_names_of_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Output("text").rows([], ("a", "whatever"))
    assert capsys.readouterr().out == ""


def test_a_column_that_nobody_knows_is_refused() -> None:
    with pytest.raises(click.UsageError, match="no column 'mesages'"):
        Output("text").rows([{"messages": 1}], ("messages", "mesages"))


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [("5", 5), ("1kB", 1000), ("1k", 1024), ("1KiB", 1024), ("2MB", 2 * 10**6), ("2MiB", 2 * 2**20), ("3GB", 3 * 10**9),
     ("3G", 3 * 2**30), ("1TiB", 2**40), (7, 7)],
)  # fmt: skip
def test_sizes_have_rabbitmqs_units(given: object, bytes_: int) -> None:
    assert Size().convert(given, None, None) == bytes_


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5GB", "1 XB", "GB"])
def test_what_is_no_size_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(given, None, None)


def test_sizes_are_printed_in_the_unit_that_is_asked_for() -> None:
    assert in_unit(34_681_702, "gb") == "0.0347 gb"
    assert in_unit(5, "bytes") == "5 bytes"
    assert in_unit(1024, None) == "1.0 KiB"
