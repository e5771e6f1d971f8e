"""Blocks and records are laid out as their docstrings say, and only what is whole and in its place verifies."""

import re
from struct import Struct, calcsize
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ExitCode, StartRefused
from shards.store import blocks, record
from shards.store.blocks import (
    ACK_LOG_MAGIC,
    FILE_HEADER_BYTES,
    SEGMENT_MAGIC,
    BlockWalk,
    Kind,
    aligned,
    block_header,
    bytes_used,
    file_header,
    read_file_header,
)

FIELD_CODES = {"1": "B", "2": "H", "3": "3s", "4": "I", "8": "Q"}
ROW = re.compile(r"^ *(\d+) +(\d+)  (\w+)", re.MULTILINE)
SALT = 0xABCD1234
KINDS = (Kind.RECORDS,)


def documented_layout(table: str) -> str:
    """The struct format that a byte table describes, after checking that its offsets follow from its sizes."""
    layout = "<"
    for offset, size, name in ROW.findall(table):
        assert int(offset) == calcsize(layout), name
        layout += "8s" if name == "magic" and size == "8" else FIELD_CODES[size]
    return layout


def tables(module_docstring: str | None) -> list[str]:
    assert module_docstring is not None
    return [part for part in module_docstring.split("```") if part.lstrip().startswith("offset  size")]


def test_the_documented_headers_are_the_coded_ones() -> None:
    file_table, block_table = tables(blocks.__doc__)

    assert documented_layout(file_table) == blocks.FILE_HEADER.format
    assert documented_layout(block_table) == blocks.BLOCK_HEADER.format


def test_the_documented_record_is_the_coded_one() -> None:
    (table,) = tables(record.__doc__)

    assert documented_layout(table) == record.RECORD_HEAD.format
    assert record.RECORD_HEAD.size == record.RECORD_HEAD_BYTES == 20


def test_a_record_of_known_fields_has_known_bytes() -> None:
    encoded = record.encode(0x0102030405060708, record.PERSISTENT, 9, b"\x01e\x02rk", b"HEAD", b"body")

    assert encoded == (
        b"\x21\x00\x00\x00"  # 33 bytes
        b"\x04\x00\x00\x00"
        b"\x05\x00"
        b"\x01\x09"
        b"\x08\x07\x06\x05\x04\x03\x02\x01"
        b"\x01e\x02rk"
        b"HEADbody"
    )


@given(
    timestamp=st.integers(0, 2**64 - 1),
    priority=st.integers(0, 255),
    exchange=st.text(max_size=60),
    key=st.text(max_size=60),
    header=st.binary(max_size=100),
    body=st.binary(max_size=500),
)
def test_a_record_comes_back_as_it_went_in(
    timestamp: int, priority: int, exchange: str, key: str, header: bytes, body: bytes
) -> None:
    exchange_bytes, key_bytes = exchange.encode(), key.encode()
    address = bytes([len(exchange_bytes)]) + exchange_bytes + bytes([len(key_bytes)]) + key_bytes

    encoded = record.encode(timestamp, 1, priority, address, header, body)
    decoded = record.decode(b"before" + encoded + b"after", 6)

    assert decoded == record.Record(timestamp, 1, priority, address, header, body)
    assert (decoded.exchange, decoded.routing_key, decoded.is_persistent) == (exchange, key, True)
    assert record.encode_head(timestamp, 1, priority, address, header, len(body)) + body == encoded


@given(st.binary(max_size=80))
def test_garbage_is_no_record_or_one_within_its_bounds(garbage: bytes) -> None:
    try:
        decoded = record.decode(garbage)
    except ValueError:
        return
    assert 20 + len(decoded.address) + len(decoded.header) + len(decoded.body) <= len(garbage)


def a_file(*payloads: bytes, salt: int = SALT) -> bytes:
    content = file_header(SEGMENT_MAGIC, 7, salt)
    for payload in payloads:
        content += bytes(aligned(len(content)) - len(content))
        content += block_header(Kind.RECORDS, salt, len(content), 1, (payload,), len(payload)) + payload
    return content


def walked(content: bytes, salt: int | None = SALT) -> list[bytes]:
    return [content[block.start : block.end] for block in BlockWalk(content, len(content), salt, KINDS)]


def test_a_file_header_is_recognized() -> None:
    assert read_file_header(a_file(), SEGMENT_MAGIC, "f") == (7, SALT)
    assert read_file_header(a_file(), ACK_LOG_MAGIC, "f") is None
    assert read_file_header(b"short", SEGMENT_MAGIC, "f") is None


def test_a_damaged_file_header_is_not_taken_for_another_version() -> None:
    content = bytearray(a_file())
    content[8] = 9

    assert read_file_header(bytes(content), SEGMENT_MAGIC, "f") is None


def test_an_unknown_version_is_refused_in_one_sentence() -> None:
    checked = Struct("<8sHHII").pack(SEGMENT_MAGIC, 3, 0, 7, SALT)
    content = checked + Struct("<I").pack(crc32(checked))

    with pytest.raises(StartRefused, match="format version 3") as refused:
        read_file_header(content, SEGMENT_MAGIC, "/data/1.messages")

    assert refused.value.exit_code == ExitCode.FORMAT_UNKNOWN


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_a_walk_finds_every_block(payloads: list[bytes]) -> None:
    assert walked(a_file(*payloads)) == payloads
    assert walked(a_file(*payloads), salt=None) == payloads
    assert walked(a_file(*payloads) + bytes(100)) == payloads


def test_a_file_cut_anywhere_keeps_its_whole_blocks() -> None:
    payloads = [b"first", b"second one", b"third"]
    content = a_file(*payloads)
    ends = [len(a_file(*payloads[:count])) for count in range(4)]

    for cut in range(FILE_HEADER_BYTES, len(content) + 1):
        whole = sum(1 for end in ends[1:] if end <= cut)
        assert walked(content[:cut]) == payloads[:whole]


def test_any_flipped_bit_costs_its_own_block_only() -> None:
    payloads = [b"first", b"second one", b"third"]
    content = a_file(*payloads)
    begin, end = aligned(len(a_file(b"first"))), len(a_file(b"first", b"second one"))

    for at in range(begin, end):
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        walk = BlockWalk(bytes(damaged), len(damaged), SALT, KINDS)
        assert [bytes(damaged[block.start : block.end]) for block in walk] == [b"first", b"third"]
        assert walk.holes == {begin: aligned(end)}


def test_a_block_forged_inside_a_payload_is_not_believed() -> None:
    """A publisher knows the format, and may even guess the offset, but not the salt."""
    inner_offset = FILE_HEADER_BYTES + blocks.BLOCK_HEADER_BYTES
    forged = block_header(Kind.RECORDS, SALT + 1, inner_offset, 1, (b"evil",), 4) + b"evil"
    content = bytearray(a_file(forged + bytes(4), b"honest"))
    content[FILE_HEADER_BYTES + 4] ^= 1

    assert walked(bytes(content)) == [b"honest"]


def test_a_block_moved_within_its_file_is_not_believed() -> None:
    content = a_file(b"just once")
    content += bytes(aligned(len(content)) - len(content))

    assert walked(content + content[FILE_HEADER_BYTES:]) == [b"just once"]


def test_used_bytes_end_before_the_zeros() -> None:
    for size in (0, 10, 65_536, 200_000):
        assert bytes_used(bytes(size), 0, size) == 0
        assert bytes_used(b"x" * size + bytes(100_000), 0, size + 100_000) == size
        assert bytes_used(b"x" * size + bytes(10), size, size + 10) == 0
