"""What the management process asks a shard about what it holds, and has it do; the supervisor passes it on unread.

A request is one of `Request`. The answer is a series of items, each msgpack behind its length as a little-endian u32,
so that a long one can be made, sent and read bit by bit: what the request promises, or a `Refused` in its place.
A list takes two requests. `Rank` says which things there are and in what order, cheaply and from every shard;
`Describe` tells all about those that are shown.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from ipc.messages.commands import Permissions

Kind: TypeAlias = Literal["queue", "exchange", "binding", "connection", "channel", "consumer"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Identity: TypeAlias = tuple[str, ...]
"""What names one thing of its kind in its vhost: a name; for a consumer connection, channel number and tag; for a
binding source, kind of destination ("q", "e"), destination and properties key."""
Document: TypeAlias = dict[str, Any]
"""A thing as the HTTP API shows it."""
Key: TypeAlias = tuple[int, int | float | str]
"""What a list is sorted by: what has no value comes first, then numbers, then texts."""

_LENGTH_BYTES: Final = 4


# requests -------------------------------------------------------------------------------------------------------------


class Asked(Struct, frozen=True, array_like=True, tag=True):
    """Base of what may be asked. What a client can do, the management process does as one."""


class Rank(Asked, frozen=True):
    """Which things there are: a `Counted`, then a `Place` for each of the first `count`, in order."""

    kind: Kind
    vhost: str | None = None  # None: of all vhosts the shard has
    vhosts: frozenset[str] | None = None  # only those; None: no matter which
    where: tuple[tuple[str, str], ...] = ()  # columns that must have these values
    name: str = ""  # part of the name, in any case; or with `use_regex` an expression found in it
    use_regex: bool = False
    sort: str = ""  # a column, dotted where it lies in another; empty: in the order of names
    is_descending: bool = False
    count: int = 0


class Describe(Asked, frozen=True):
    """A `Document` for each of these that is still there, in this order."""

    kind: Kind
    places: tuple[tuple[str, Identity], ...]  # vhost and identity
    in_detail: bool = False  # also what is shown only where one thing is looked at


class CountAll(Asked, frozen=True):
    """One `Document` of totals, over the vhosts named or all; `by_vhost` one for each."""

    vhosts: frozenset[str] | None = None
    by_vhost: bool = False
    with_history: bool = False


class CountConnections(Asked, frozen=True):
    """A `Counted`: how many connections the shard has, and how many of them are this user's own."""

    user: str


class CloseConnection(Asked, frozen=True):
    """With 320 and this reason."""

    vhost: str
    name: str
    reason: str


class CancelConsumer(Asked, frozen=True):
    """As if its queue had gone: the client is told, if it wants to be."""

    vhost: str
    connection: str
    channel: int
    tag: str


class SetPrefetch(Asked, frozen=True):
    """For consumers that come later on this channel."""

    vhost: str
    connection: str
    channel: int
    prefetch: int


class ListUnacknowledged(Asked, frozen=True):
    """A `Described` for each delivery of a queue that waits to be acknowledged, as many as a list has at most."""

    vhost: str
    queue: str


class Behalf(Struct, frozen=True, array_like=True):
    """Who wants it, and may do what in the vhost: the shard refuses what AMQP would refuse it."""

    user: str
    permissions: Permissions


class Discard(Asked, frozen=True):
    """The next messages of a queue, at most `count`, as `queue.purge` discards all: it needs the same permission."""

    vhost: str
    queue: str
    count: int
    behalf: Behalf


class Unbind(Asked, frozen=True):
    """Take a binding back; it needs the permissions that `queue.unbind` and `exchange.unbind` need."""

    vhost: str
    binding: Identity
    behalf: Behalf


class Pause(Asked, frozen=True):
    """Have a queue hand nothing out, or go on; it needs the permission to configure it."""

    vhost: str
    queue: str
    is_paused: bool
    behalf: Behalf


Request: TypeAlias = (
    Rank
    | Describe
    | CountAll
    | CountConnections
    | CloseConnection
    | CancelConsumer
    | SetPrefetch
    | ListUnacknowledged
    | Discard
    | Unbind
    | Pause
)


# answers --------------------------------------------------------------------------------------------------------------


class Said(Struct, frozen=True, array_like=True, tag=True):
    """Base of what is answered."""


class Counted(Said, frozen=True):
    """How many there are in all, and how many of them were meant."""

    total: int
    found: int


class Place(Said, frozen=True, gc=False):
    """One thing in its place of a list."""

    key: Key
    vhost: str
    identity: Identity

    @property
    def order(self) -> tuple[Key, str, Identity]:
        """What places are sorted by; two of one key in the order of their names."""
        return self.key, self.vhost, self.identity


class Described(Said, frozen=True):
    """What there is to say about one thing, or about all of them together."""

    vhost: str
    identity: Identity
    document: Document


class Done(Said, frozen=True):
    """It was done, and is on disk where that was called for."""

    document: Document = {}


class Refused(Said, frozen=True):
    """Why it cannot be done; `code` is AMQP's."""

    code: int
    text: str


Item: TypeAlias = Counted | Place | Described | Done | Refused

_encoder: Final = msgspec.msgpack.Encoder()
_items: Final[msgspec.msgpack.Decoder[Item]] = msgspec.msgpack.Decoder(Item)


def packed(item: Item) -> bytes:
    """An item behind its length."""
    encoded = _encoder.encode(item)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded


def items(pieces: Iterable[bytes]) -> Iterator[Item]:
    """The items of an answer that came in pieces. Raises msgspec.DecodeError for what is none."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        at = 0
        while len(rest) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(rest[at : at + _LENGTH_BYTES], "little")
            if end > len(rest):
                break
            yield _items.decode(memoryview(rest)[at + _LENGTH_BYTES : end].tobytes())
            at = end
        del rest[:at]
    if rest:
        raise msgspec.DecodeError("an answer that ends in the middle of an item")
