"""Publishers wait while something is short: which frames those are, and what their clients are told.

```
short ─► a publish comes: it stays in its connection, nobody reads on ─► connection.blocked, once
nothing short any more ─► what was kept is taken in ─► connection.unblocked, if blocked was said
```
As in RabbitMQ only who publishes meanwhile hears of it, and who has said it can. The whole connection waits, because
frames must be taken in the order they came in: who consumes through another one goes on.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from shards.model.turn import Shortage

if TYPE_CHECKING:
    from shards.protocols.amqp.channel import Channel

_PUBLISH: Final = b"\x00\x3c\x00\x28"
_COMMIT: Final = b"\x00\x5a\x00\x14"

_WORDS: Final = {
    "memory": frozenset({Shortage.MEMORY}),
    "disk": frozenset({Shortage.DISK, Shortage.WRITES}),
}


def stores(method: bytes, channel: "Channel | None") -> bool:
    """Whether class and method, as on the wire, bring messages in: a publish, or the commit of some.

    A transaction that only settles deliveries makes room, so it never waits.
    """
    if method == _COMMIT:
        return channel is not None and channel.transaction is not None and channel.transaction.publishes
    return method == _PUBLISH


def reason(shortages: Collection[Shortage]) -> str:
    """For `connection.blocked`, in RabbitMQ's words: "low on memory", "low on disk" or "low on memory & disk"."""
    return "low on " + " & ".join(word for word, meant in _WORDS.items() if not meant.isdisjoint(shortages))
