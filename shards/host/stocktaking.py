"""Answers the management process beside the pump: in slices of a millisecond, in pieces that fit a packet."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
import trio

from ipc.errors import ConnectionRefusal, Refusal, ReplyCode
from ipc.limits import INVENTORY_PIECE_BYTES, INVENTORY_SLICE_SECONDS_MAX
from ipc.messages.commands import AskInventory
from ipc.messages.inventory import (
    Asked,
    CancelConsumer,
    CloseConnection,
    CountAll,
    CountConnections,
    Describe,
    Discard,
    Done,
    Item,
    ListUnacknowledged,
    Pause,
    Rank,
    Refused,
    Request,
    SetPrefetch,
    Unbind,
    packed,
)
from ipc.messages.reports import Inventory
from shards.inventory.clients import find_connection
from shards.inventory.column import Gone
from shards.inventory.interfering import cancel_consumer, discard, pause, set_prefetch, unbind
from shards.inventory.listing import Steps, describe, rank
from shards.inventory.totals import count_all, count_connections
from shards.inventory.unacknowledged import list_unacknowledged
from shards.model.turn import Turn

if TYPE_CHECKING:
    from shards.host.shard import Shard

_LOG: Final = structlog.get_logger("shard.stocktaking")

_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)


async def take_stock(shard: "Shard", question: AskInventory) -> AsyncIterator[Inventory]:
    """The answer to one request, piece by piece; whatever is wrong with it is said in its place."""
    piece = bytearray()
    is_done = False
    round_before = shard.turn.next_round
    async for item in _paused(_steps(shard, question)):
        is_done = isinstance(item, Done)
        piece += packed(item)
        while len(piece) >= INVENTORY_PIECE_BYTES:
            yield Inventory(question.number, shard.number, is_last=False, piece=bytes(piece[:INVENTORY_PIECE_BYTES]))
            del piece[:INVENTORY_PIECE_BYTES]
    if is_done and (shard.turn.round_wanted or shard.turn.next_round != round_before):
        await _OnDisk(shard.turn).wait()
    yield Inventory(question.number, shard.number, is_last=True, piece=bytes(piece))


class _OnDisk:
    """Waits until what was changed now lasts."""

    def __init__(self, turn: Turn) -> None:
        self._is_released = trio.Event()
        self._round = turn.await_round(self)

    def released(self, durable_through: int) -> bool:
        if durable_through < self._round:
            return True
        self._is_released.set()
        return False

    async def wait(self) -> None:
        await self._is_released.wait()


async def _paused(steps: Steps) -> AsyncIterator[Item]:
    """The items of a list, with a pause for everybody else after each slice."""
    began = time.perf_counter()
    for item in steps:
        if item is not None:
            yield item
        if time.perf_counter() - began >= INVENTORY_SLICE_SECONDS_MAX:
            await trio.lowlevel.checkpoint()
            began = time.perf_counter()


def _steps(shard: "Shard", question: AskInventory) -> Steps:
    try:
        request = _requests.decode(question.request)
        shard.turn.now = shard.clock()  # a shard with nothing to do has not looked at its clock
        yield from _ANSWERS[type(request)](shard, request)
    except Gone:
        yield Refused(ReplyCode.NOT_FOUND, "Object Not Found")
    except Refusal as refusal:
        yield Refused(refusal.code, refusal.text)
    except re.error as fault:
        yield Refused(ReplyCode.SYNTAX_ERROR, f"no regular expression: {fault}")
    except Exception as fault:  # noqa: BLE001 - a question is not worth a shard
        _LOG.exception("question of the management process cannot be answered")
        yield Refused(ReplyCode.INTERNAL_ERROR, str(fault) or type(fault).__name__)


def _rank(shard: "Shard", request: Rank) -> Steps:
    return rank(shard.vhosts, request)


def _describe(shard: "Shard", request: Describe) -> Steps:
    return describe(shard.vhosts, request)


def _count(shard: "Shard", request: CountAll) -> Steps:
    return count_all(shard.vhosts, request)


def _count_connections(shard: "Shard", request: CountConnections) -> Steps:
    return count_connections(shard.vhosts, request)


def _close(shard: "Shard", request: CloseConnection) -> Iterator[Item]:
    vhost = shard.vhosts.find(request.vhost)
    if vhost is None:
        raise Gone
    connection = find_connection(vhost, (request.name,))
    refusal = ConnectionRefusal(ReplyCode.CONNECTION_FORCED, request.reason)
    shard.pump.close_client(connection, refusal, shard.clock())
    shard.bell.ring()
    yield Done()


def _cancel(shard: "Shard", request: CancelConsumer) -> Iterator[Item]:
    cancel_consumer(shard.vhosts, request)
    shard.bell.ring()
    yield Done()


def _set_prefetch(shard: "Shard", request: SetPrefetch) -> Iterator[Item]:
    set_prefetch(shard.vhosts, request)
    yield Done()


def _list_unacknowledged(shard: "Shard", request: ListUnacknowledged) -> Steps:
    return list_unacknowledged(shard.vhosts, request)


def _discard(shard: "Shard", request: Discard) -> Steps:
    for item in discard(shard.vhosts, request):
        shard.bell.ring()  # before every pause: what was dropped leaves the disk with a turn
        yield item


def _unbind(shard: "Shard", request: Unbind) -> Iterator[Item]:
    unbind(shard.vhosts, request)
    shard.bell.ring()
    yield Done()


def _pause(shard: "Shard", request: Pause) -> Iterator[Item]:
    pause(shard.vhosts, request)
    shard.bell.ring()
    yield Done()


_ANSWERS: Final[dict[type[Asked], Callable[["Shard", Any], Steps]]] = {
    Rank: _rank,
    Describe: _describe,
    CountAll: _count,
    CountConnections: _count_connections,
    CloseConnection: _close,
    CancelConsumer: _cancel,
    SetPrefetch: _set_prefetch,
    ListUnacknowledged: _list_unacknowledged,
    Discard: _discard,
    Unbind: _unbind,
    Pause: _pause,
}
