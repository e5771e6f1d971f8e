"""Sound bytes made unsound: what disks, networks and people with ideas do to them."""

import struct
from random import Random
from typing import Final

_EXTREMES: Final = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_LENGTHS: Final = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(sound: bytes, random: Random) -> bytes:
    """A few changes of any kind."""
    data = bytearray(sound)
    for _ in range(random.choice((1, 1, 2, 5))):
        random.choice(_DAMAGES)(data, random)
    return bytes(data)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice(_EXTREMES)


def _lie_about_length(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at : at + 4] = struct.pack(random.choice("<>") + "I", random.choice(_LENGTHS))


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _drop(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.randrange(1, 40)]


def _double(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = data[at : at + random.randrange(1, 200)]


def _zero(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((8, 64, 512, 4096)))
    data[at:end] = bytes(end - at)


def _garble(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.randrange(1, 30))
    data[at:end] = random.randbytes(end - at)


_DAMAGES: Final = (_flip, _flip, _set, _lie_about_length, _cut, _drop, _double, _zero, _garble)
