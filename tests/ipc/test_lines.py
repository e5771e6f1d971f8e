"""Lines come whole out of whatever pieces a stream arrives in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.lines import Lines, LineTooLong


@given(
    lines=st.lists(st.binary(max_size=30).filter(lambda line: not set(line) & set(b"\r\n"))),
    cuts=st.lists(st.integers(1, 7), min_size=1),
)
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = Lines(30)
    found: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        count = cuts[turn % len(cuts)]
        found += splitter.feed(stream[at : at + count])
        at += count
        turn += 1

    assert found == lines


def test_an_end_of_line_of_two_characters_is_one() -> None:
    assert Lines(10).feed(b"one\r\ntwo\n") == [b"one", b"two"]


@pytest.mark.parametrize("data", [b"x" * 11, b"x" * 11 + b"\n", b"ok\n" + b"x" * 11])
def test_a_line_beyond_the_limit_is_refused_whether_it_has_ended_or_not(data: bytes) -> None:
    with pytest.raises(LineTooLong):
        Lines(10).feed(data)


def test_a_line_of_exactly_the_limit_is_taken() -> None:
    assert Lines(10).feed(b"x" * 10 + b"\n") == [b"x" * 10]
