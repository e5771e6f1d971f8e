"""Messages that come twice: a queue or an exchange remembers the last ones by a header that says which they are.

LavinMQ's: `x-message-deduplication` asks for it, the header is called `x-deduplication-header` unless an argument of
that name calls it something else, and of those that have one the last `x-cache-size` are remembered, each for
`x-cache-ttl` milliseconds or what its own header of that name says. In memory only: a restart forgets all of them.
"""

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from ipc.limits import DEDUPLICATION_KEY_BYTES_MAX, TIME_MS_MAX
from ipc.wire.amqp.amending import integer_of
from shards.compaction.compactable import Compactable
from shards.model.queues.terms import Terms

TTL_HEADER: Final = "x-cache-ttl"

_VOID: Final = frozenset((b"", b"V", b"\0"))  # no header, or one without a value
_DIGEST: Final = b"#"  # no field of a table is of this kind


class Deduplication(Compactable):
    """What one queue or exchange remembers; a message is its header fields, kind and value of each as bytes."""

    __slots__ = ("_header", "_seen", "_size_max", "_ttl", "deduplicated_count")
    COLLECTIONS = ("_seen",)
    KIND = "deduplication"

    def __init__(self, terms: Terms) -> None:
        self._header = terms.deduplication_header
        self._size_max = terms.deduplicated_max
        self._ttl = terms.deduplicated_ttl
        # Until when, in broker time, or 0: for good. A dict would search for its oldest among all that left before.
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self.deduplicated_count = 0  # messages that came again

    @property
    def remembered_count(self) -> int:
        """Messages that would be told from new ones, or whose time is over."""
        return len(self._seen)

    def is_duplicate(self, fields: Mapping[str, bytes], now: int) -> bool:
        """Whether a message is one of those remembered; it is counted then, and not remembered any longer for that."""
        key = self._key(fields)
        until = None if key is None else self._seen.get(key)
        if until is None or 0 < until <= now:
            return False
        self.deduplicated_count += 1
        return True

    def remember(self, fields: Mapping[str, bytes], now: int) -> None:
        """This message was taken in."""
        key = self._key(fields)
        if key is None:
            return
        self._seen.pop(key, None)  # so that it is the youngest again
        while self._seen and (len(self._seen) >= self._size_max or 0 < self._seen[next(iter(self._seen))] <= now):
            self._seen.popitem(last=False)
        ttl = self._ttl_of(fields)
        self._seen[key] = 0 if ttl is None else now + ttl

    def _key(self, fields: Mapping[str, bytes]) -> bytes | None:
        value = fields.get(self._header, b"")
        if value in _VOID:
            return None
        if len(value) > DEDUPLICATION_KEY_BYTES_MAX:
            return _DIGEST + blake2b(value, digest_size=32).digest()
        return value

    def _ttl_of(self, fields: Mapping[str, bytes]) -> int | None:
        """Its own comes before the one asked for in arguments; what is no such time is passed over."""
        own = integer_of(fields.get(TTL_HEADER, b""))
        return own if own is not None and 0 <= own <= TIME_MS_MAX else self._ttl
