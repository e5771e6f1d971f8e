"""Numbers that stand for texts, the same in every process and after every restart, which Python's own are not."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import count, islice
from struct import Struct
from typing import Final

HASH_BITS: Final = 64

_BLOCK: Final = Struct("<8Q")
_MULTIPLIER: Final = 2862933555777941757
_MASK: Final = (1 << HASH_BITS) - 1


def hashed(value: bytes) -> int:
    """One number of HASH_BITS for this value."""
    return int.from_bytes(blake2b(value, digest_size=HASH_BITS // 8).digest(), "little")


def numbers(seed: bytes, amount: int) -> Iterator[int]:
    """So many numbers of HASH_BITS for this seed; fewer are the first ones of more."""
    return islice(_endless(seed), amount)


def _endless(seed: bytes) -> Iterator[int]:
    for block in count():
        yield from _BLOCK.unpack(blake2b(seed + block.to_bytes(4, "little"), digest_size=_BLOCK.size).digest())


def jump(key: int, buckets: int) -> int:
    """The bucket that `key` belongs to; one bucket more takes its share from all others and moves nothing else.

    "A Fast, Minimal Memory, Consistent Hash Algorithm" (Lamping, Veach: arXiv 1406.2294); takes ln(buckets) steps.
    """
    bucket, following = 0, 0
    while following < buckets:
        bucket = following
        key = (key * _MULTIPLIER + 1) & _MASK
        following = ((bucket + 1) << 31) // ((key >> 33) + 1)
    return bucket
