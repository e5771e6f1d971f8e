"""Byte access with every range checked: the only place where the hot modules touch memory.

Two implementations of the same few names. Interpreted they are slices and `struct`; compiled (`raw.pxd`) they are
inline C over typed buffers, which refuses what is out of range just the same. Wire formats are big-endian; the `le`
ones are what the store writes. A hot module imports the names only where it is interpreted:

    import cython
    if not cython.compiled:
        from ipc.wire.raw import get32, add
"""

import struct
from array import array
from typing import Any

Buffer = Any
"""bytes, bytearray, memoryview or mmap; compiled: `const unsigned char[::1]`, or `bytearray` where it grows."""

_16 = struct.Struct(">H")
_32 = struct.Struct(">I")
_64 = struct.Struct(">Q")
_HEAD = struct.Struct(">BHI")
_32_LE = struct.Struct("<I")
_16_LE = struct.Struct("<H")


def get16(source: Buffer, at: int) -> int:
    return _16.unpack_from(source, at)[0]  # type: ignore[no-any-return]


def get32(source: Buffer, at: int) -> int:
    return _32.unpack_from(source, at)[0]  # type: ignore[no-any-return]


def get64(source: Buffer, at: int) -> int:
    return _64.unpack_from(source, at)[0]  # type: ignore[no-any-return]


def get16le(source: Buffer, at: int) -> int:
    return _16_LE.unpack_from(source, at)[0]  # type: ignore[no-any-return]


def get32le(source: Buffer, at: int) -> int:
    return _32_LE.unpack_from(source, at)[0]  # type: ignore[no-any-return]


def same(source: Buffer, at: int, expected: bytes) -> bool:
    """Whether `expected` stands at `at`; not when the source ends before."""
    return source[at : at + len(expected)] == expected  # type: ignore[no-any-return]


def add(target: bytearray, source: Buffer, start: int, end: int) -> None:
    """Append `source[start:end]`. Each `add` adds all of it, or nothing and raises MemoryError."""
    if end > start:
        if start < 0 or end > len(source):
            raise IndexError("read beyond a buffer")
        target += source[start:end]


def add_all(target: bytearray, source: bytes) -> None:
    target += source


def add8(target: bytearray, value: int) -> None:
    target.append(value)


def add64(target: bytearray, value: int) -> None:
    target += _64.pack(value)


def add32le(target: bytearray, value: int) -> None:
    target += _32_LE.pack(value)


def add_head(target: bytearray, kind: int, channel: int, size: int) -> None:
    """What stands before the payload of an AMQP frame: octet, short and long."""
    target += _HEAD.pack(kind, channel, size)


def add_number(target: "array[int]", value: int) -> None:
    """Append to a typed array of 32 or 64 bits."""
    target.append(value)
