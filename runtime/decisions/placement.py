"""Which shard owns a vhost: rendezvous hashing, so that another number of shards moves only what it must."""

import hashlib


def preferred_shard(vhost: str, shards: int) -> int:
    """The shard whose hash together with the vhost's name is the highest; stable over machines and releases."""
    return max(range(shards), key=lambda shard: _weight(vhost, shard))


def shard_of(vhost: str, stored: int | None, shards: int) -> int:
    """The shard a vhost belongs to when there are `shards` of them: the stored one (hashed or pinned) while it exists.

    A vhost stays where it is when shards are added: its clients and caches are worth more than an even spread.
    """
    if stored is not None and 0 <= stored < shards:
        return stored
    return preferred_shard(vhost, shards)


def _weight(vhost: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}\0{vhost}".encode(), digest_size=8).digest()
