"""The broker as the management process sees it: lists, documents and totals, whichever shards they come from."""

import heapq
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from ipc.errors import ReplyCode
from ipc.limits import BROKER_ASKED_AT_ONCE_MAX, DESCRIBED_AT_ONCE_MAX, LISTED_MAX, LOG_READERS_MAX
from ipc.link import Link, LinkClosed
from ipc.log import configure_logging
from ipc.messages import inventory
from ipc.messages.commands import Compact
from ipc.messages.control import ControlReply, ControlRequest, LogLines, ReadLog
from ipc.messages.inventory import CountAll, Counted, Describe, Described, Document, Identity, Kind, Place, Rank
from ipc.messages.logins import Attempt
from ipc.messages.management import (
    Abandon,
    AskShards,
    AskSupervisor,
    Attempted,
    Barred,
    Begin,
    DirectoryChanged,
    Enter,
    Entered,
    Follow,
    Heard,
    ManagementCommand,
    MayTry,
    Over,
    Patience,
    Reconfigured,
    Told,
    Upward,
)
from ipc.messages.reports import Reclaimed
from ipc.settings import Settings
from runtime.owner import Owner

ManagementLink = Link[ManagementCommand]

Reply = TypeVar("Reply")

_ALL: Final = 2**31  # more than any shard holds
_ORDER: Final = attrgetter("order")
_ON_NODE: Final = frozenset({"queue", "connection", "channel"})
_encoder: Final = msgspec.msgpack.Encoder()


class Refused(Exception):
    """A shard will not do it; `code` is AMQP's reply code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Unavailable(Exception):
    """Who would have to answer does not."""


class Listed(Struct, frozen=True):
    """Part of a list: how many there are, how many were meant, and the documents of those that are shown."""

    total: int
    found: int
    documents: list[Document]


class _Answer:
    """What has come so far."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[bytes]] = {}
        self.replies: list[ControlReply] = []
        self.entered: tuple[Entered, int] | None = None
        self.barred: Barred | None = None
        self.silent: dict[int, str] = {}
        self.wait_seconds = 0.0
        self.is_over = trio.Event()


class Broker(Owner):
    """Asks over the link to the supervisor; any number of questions at once, but not too many."""

    COLLECTIONS = ("_open",)

    def __init__(
        self,
        link: ManagementLink,
        begin: Begin,
        directory_changed: Callable[[], None],
        http_addresses: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.begin = begin
        self.http_addresses = tuple(http_addresses)  # where the API itself is found
        self.node = f"ebbmq@{socket.gethostname()}"  # RabbitMQ's clients expect a name of this form
        self.settings: Settings = begin.settings
        self._link = link
        self._directory_changed = directory_changed
        self._number = 0
        self._open: dict[int, _Answer] = {}
        self.log_readers = trio.CapacityLimiter(LOG_READERS_MAX)
        self._limiter = trio.CapacityLimiter(BROKER_ASKED_AT_ONCE_MAX)

    async def run(self, compact: Callable[[Compact], None]) -> None:
        """Hear what is answered, and told: `compact` begins a pass. Raises LinkClosed when the supervisor is gone."""
        while True:
            word, descriptors = await self._link.receive()
            match word:
                case Heard(number=number, shard=shard, piece=piece):
                    if (answer := self._open.get(number)) is not None:
                        answer.pieces.setdefault(shard, []).append(piece)
                case Told(number=number, reply=reply):
                    if (answer := self._open.get(number)) is not None:
                        answer.replies.append(reply)
                case Entered(number=number):
                    self._entered(word, descriptors)
                case Barred(number=number):
                    if (answer := self._open.get(number)) is not None:
                        answer.barred = word
                        answer.is_over.set()
                case Patience(number=number, seconds=seconds):
                    if (answer := self._open.get(number)) is not None:
                        answer.wait_seconds = seconds
                        answer.is_over.set()
                case Over(number=number, silent=silent):
                    if (answer := self._open.get(number)) is not None:
                        answer.silent = silent
                        answer.is_over.set()
                case Reconfigured(settings=settings):
                    self.settings = settings
                    main = settings.main
                    configure_logging(main.log_level, main.log_format, path=main.log_file)
                case DirectoryChanged():
                    self._directory_changed()
                case Compact():
                    compact(word)
                case Begin():
                    pass

    def _entered(self, word: Entered, descriptors: list[int]) -> None:
        answer = self._open.get(word.number)
        if answer is None:
            socket.socket(fileno=descriptors[0]).close()
            return
        answer.entered = word, descriptors[0]
        answer.is_over.set()

    async def _ask(self, question: Callable[[int], Upward]) -> _Answer:
        async with self._limiter:
            return await self._answer_to(question)

    async def _answer_to(self, question: Callable[[int], Upward]) -> _Answer:
        self._number += 1
        number = self._number
        answer = self._open[number] = _Answer()
        try:
            await self._link.send(question(number))
            await answer.is_over.wait()
        finally:
            del self._open[number]
            if not answer.is_over.is_set():
                self._abandon(number)
        return answer

    def _abandon(self, number: int) -> None:
        try:
            self._link.send_now(Abandon(number))  # where it cannot be said, the answer comes and finds nobody
        except LinkClosed:
            pass

    # lists ------------------------------------------------------------------------------------------------------------

    async def listing(self, rank: Rank, *, start: int = 0, count: int = LISTED_MAX, in_detail: bool = False) -> Listed:
        """The documents from `start` on, at most `count`, in the order that `rank` asks for.

        Raises Refused and Unavailable.
        """
        wanted = msgspec.structs.replace(rank, count=start + count)
        ranked = await self._items(wanted, rank.vhost)
        total = found = 0
        lists: list[list[Place]] = []
        for items in ranked.values():
            places = [item for item in items if isinstance(item, Place)]
            lists.append(places)
            for item in items:
                if isinstance(item, Counted):
                    total += item.total
                    found += item.found
        merged = heapq.merge(*lists, key=_ORDER, reverse=rank.is_descending)
        shown = list(islice(merged, start, start + count))
        return Listed(total, found, await self._documents(rank.kind, shown, in_detail=in_detail))

    async def identities(self, kind: Kind, vhost: str) -> list[Identity]:
        """What names each thing of a kind in a vhost, however many there are, in order. Raises Unavailable."""
        ranked = await self._items(Rank(kind, vhost, count=_ALL), vhost)
        return [item.identity for item in _all(ranked.values()) if isinstance(item, Place)]

    async def described(self, kind: Kind, vhost: str, identities: Sequence[Identity]) -> AsyncIterator[Document]:
        """The documents of those that are still there, bit by bit. Raises Unavailable."""
        for begin in range(0, len(identities), DESCRIBED_AT_ONCE_MAX):
            wanted = tuple((vhost, identity) for identity in identities[begin : begin + DESCRIBED_AT_ONCE_MAX])
            answered = await self._items(Describe(kind, wanted), vhost)
            for item in _all(answered.values()):
                if isinstance(item, Described):
                    yield item.document

    async def _documents(self, kind: Kind, places: Sequence[Place], *, in_detail: bool) -> list[Document]:
        """Those that are still there, in their order."""
        by_place: dict[tuple[str, Identity], Document] = {}
        for begin in range(0, len(places), DESCRIBED_AT_ONCE_MAX):
            some = places[begin : begin + DESCRIBED_AT_ONCE_MAX]
            by_vhost: dict[str, list[tuple[str, Identity]]] = {}
            for place in some:
                by_vhost.setdefault(place.vhost, []).append((place.vhost, place.identity))
            for vhost, wanted in by_vhost.items():
                described = await self._items(Describe(kind, tuple(wanted), in_detail=in_detail), vhost)
                for items in described.values():
                    by_place |= {
                        (item.vhost, item.identity): self._placed(kind, item.document)
                        for item in items
                        if isinstance(item, Described)
                    }
        return [by_place[place.vhost, place.identity] for place in places if (place.vhost, place.identity) in by_place]

    def _placed(self, kind: Kind, document: Document) -> Document:
        """With the node it is on, which shards do not know by name."""
        if kind in _ON_NODE:
            document["node"] = self.node
        return document

    async def find(self, kind: Kind, vhost: str, *identity: str) -> Document | None:
        """One thing in detail, or None where there is none. Raises Unavailable."""
        described = await self._items(Describe(kind, ((vhost, identity),), in_detail=True), vhost)
        for item in _all(described.values()):
            if isinstance(item, Described):
                return self._placed(kind, item.document)
        return None

    async def has(self, kind: Kind, vhost: str, *identity: str) -> bool:
        """Whether there is such a thing. Raises Unavailable."""
        described = await self._items(Describe(kind, ((vhost, identity),)), vhost)
        return any(isinstance(item, Described) for item in _all(described.values()))

    async def documents(self, request: inventory.Request, vhost: str) -> list[Document]:
        """All that are given in answer. Raises Refused and Unavailable."""
        items = await self._items(request, vhost)
        return [item.document for item in _all(items.values()) if isinstance(item, Described)]

    async def totals(self, request: CountAll) -> list[Document]:
        """A document from each shard, or each vhost. Raises Unavailable."""
        counted = await self._items(request, None)
        return [item.document for item in _all(counted.values()) if isinstance(item, Described)]

    async def open_vhosts(self) -> set[str]:
        """Names of those whose shard answers. Raises Unavailable."""
        counted = await self._items(CountAll(by_vhost=True), None)
        return {item.vhost for item in _all(counted.values()) if isinstance(item, Described)}

    async def perform(self, request: inventory.Request, vhost: str) -> None:
        """Have a shard do something. Raises Refused and Unavailable."""
        await self._items(request, vhost)

    async def _items(self, request: inventory.Request, vhost: str | None) -> dict[int, list[inventory.Item]]:
        encoded = _encoder.encode(request)
        answer = await self._ask(lambda number: AskShards(number, vhost, encoded))
        if answer.silent:
            raise Unavailable("; ".join(f"shard {shard}: {reason}" for shard, reason in sorted(answer.silent.items())))
        found = {shard: list(inventory.items(pieces)) for shard, pieces in answer.pieces.items()}
        for item in _all(found.values()):
            if isinstance(item, inventory.Refused):
                raise Refused(item.code, item.text)
        return found

    # everything else --------------------------------------------------------------------------------------------------

    async def control(self, request: ControlRequest) -> list[ControlReply]:
        """What the control socket would say."""
        return (await self._ask(lambda number: AskSupervisor(number, request))).replies

    async def wait_seconds(self, user: str, address: str) -> float:
        """Until this user's password may be tried from this address; 0: now."""
        return (await self._ask(lambda number: MayTry(number, user, address))).wait_seconds

    async def note(self, attempt: Attempt) -> None:
        """Somebody came with a name and a password."""
        await self._link.send(Attempted(0, attempt))

    async def log_lines(self, after: int, *, wait_seconds: float = 0.0) -> LogLines:
        """A page of the log after this line; waits for the first of them, beside all other questions."""
        answer = await self._answer_to(lambda number: AskSupervisor(number, ReadLog(after, wait_seconds)))
        found = next((reply for reply in answer.replies if isinstance(reply, LogLines)), None)
        if found is None:
            raise Unavailable("the supervisor does not say what was logged")
        return found

    async def reclaimed(self, report: Reclaimed) -> None:
        """Tell what a pass gave back."""
        await self._link.send(report)

    async def follow(self) -> None:
        """The directory was changed: returns when the broker acts by it."""
        await self._ask(Follow)

    async def enter(self, user: str, vhost: str, name: str, *, is_literal: bool = False) -> tuple[socket.socket, int]:
        """A stream to the vhost as a client of this user, and the size of its frames. Raises Refused, Unavailable."""
        answer = await self._ask(lambda number: Enter(number, user, vhost, name, is_literal))
        if answer.barred is not None and answer.barred.code == ReplyCode.INTERNAL_ERROR:
            raise Unavailable(answer.barred.text)
        if answer.barred is not None:
            raise Refused(answer.barred.code, answer.barred.text)
        assert answer.entered is not None
        word, descriptor = answer.entered
        return socket.socket(fileno=descriptor), word.frame_max


def _all(lists: Iterable[Iterable[Reply]]) -> Iterable[Reply]:
    return (item for items in lists for item in items)
