"""Takes runs of whole publishes and acknowledgements straight out of the receive buffer.

Hot module. The bytes of a `basic.publish` method frame, channel number included, are the key of the route cache, so a
message of a known route costs one look-up, a few integers and one copy into the queue's tail: no method object, no
strings. The first thing that is not whole, not known or not plain ends the run; `connection.py` takes it from there,
frame by frame.
"""

import struct
from array import array
from typing import TYPE_CHECKING, Final

from ipc.errors import Refusal
from ipc.limits import FRAME_OVERHEAD_BYTES, LARGE_BODY_BYTES, RECEIVE_BYTES_PER_TURN
from ipc.wire.amqp import frames, properties
from ipc.wire.raw import get32
from shards.protocols.amqp.addressing import is_plain
from shards.protocols.amqp.channel import ChannelState
from shards.protocols.amqp.runs import take_acknowledgements, take_publishes
from shards.protocols.amqp.settling import acknowledge, acknowledge_each
from shards.store import record
from shards.store.half_done import no_way_back

if TYPE_CHECKING:
    from shards.protocols.amqp.connection import Connection

_FRAME = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIIQB")  # frame header, class and method, delivery tag, multiple
_ACK_FRAME_BYTES: Final = _ACK.size + 1
_ACK_PAYLOAD_BYTES: Final = 13
_ACK_INDEX: Final = 60 << 16 | 80
_HEADER = struct.Struct(">BHIHHQ")  # frame header, class, weight, body size
_LEAD_BYTES: Final = 11  # what of it is the same in all messages of a run: all but the body size
_AROUND_REST_BYTES: Final = (
    4 + 8 - 1
)  # length before it, body size after it; what is kept as properties has an end octet
_BODY_LEAD = struct.Struct(">BH")
_OVERHEAD: Final = FRAME_OVERHEAD_BYTES
_PREFIX: Final = frames.HEADER_BYTES


class Intake:
    """The fast way in, for one connection."""

    __slots__ = ("_connection", "_facts", "_is_plain", "_properties", "awaits_rest")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._properties = b""  # of the previous message: publishers tend to repeat themselves
        self._facts = properties.NO_FACTS
        self._is_plain = True  # nothing in them has to be followed or refused
        self.awaits_rest = False  # the run ended in the middle of a message that can be taken once all of it is there

    def close(self) -> None:
        """Let go of the connection, which holds on to us: otherwise both would wait for a collection of cycles.

        Nothing is taken in after this; it may be called again.
        """
        if hasattr(self, "_connection"):
            del self._connection

    def run(self, view: memoryview, position: int, now: int) -> int:
        """Take what can be taken from `view[position:]`; the index of the first byte that was not.

        Raises nothing: whatever is wrong is left where it is, for the careful way to refuse.
        """
        connection = self._connection
        self.awaits_rest = False
        must_wait = bool(connection.turn.shortages)
        end = len(view)
        while end - position > _OVERHEAD:
            kind, number, size = _FRAME.unpack_from(view, position)
            header_at = position + size + _OVERHEAD
            if kind != frames.METHOD or header_at > end:
                break
            if size == _ACK_PAYLOAD_BYTES and get32(view, position + _PREFIX) == _ACK_INDEX:
                after = self._acknowledge(view, position, number)
            elif must_wait:
                break
            else:
                after = self._publish(view, position, header_at, now)
            if after == position:
                break
            position = after
        return position

    def _publish(self, view: memoryview, position: int, header_at: int, now: int) -> int:
        connection = self._connection
        method = bytes(view[position:header_at])
        route = connection.routes.get(method)
        if (
            route is None
            or route.revision != connection.vhost.revision
            or route.channel.content is not None
            or not route.takes_runs
        ):
            return position
        if len(view) - header_at < _HEADER.size:
            self.awaits_rest = True
            return position
        kind, channel, header_bytes, class_id, weight, body_bytes = _HEADER.unpack_from(view, header_at)
        if (
            kind != frames.HEADER
            or channel != route.channel.number
            or class_id != properties.BASIC_CLASS
            or weight
            or not properties.FIXED_BYTES <= header_bytes <= connection.frame_max
            or (route.is_mandatory and not route.queues)
        ):
            return position
        header_end = header_at + header_bytes + _OVERHEAD
        if self._is_cut_off(view, header_end, channel, body_bytes):
            self.awaits_rest = True
            return position
        if view[header_end - 1] != frames.END or not self._inspect(bytes(view[header_at + _PREFIX : header_end])):
            return position
        facts = self._facts
        flags = record.flags(is_persistent=facts.is_persistent, expires=facts.expires)
        first = route.queues[0].open_run(facts.priority) if route.queues else None
        tail = first.open_run() if first is not None else bytearray()
        before = len(tail)
        rest = record.encode_rest(now, flags, facts.priority, route.address, header_bytes)
        with no_way_back:  # what is in a tail and was not counted would be taken for what comes next
            after, count = take_publishes(
                view,
                position,
                method,
                bytes(view[header_at : header_at + _LEAD_BYTES]),
                self._properties,
                _BODY_LEAD.pack(frames.BODY, channel),
                rest,
                self._body_max,
                tail,
                first.tail.bytes_max if first is not None else RECEIVE_BYTES_PER_TURN * 2,
            )
            if not count:
                return position
            connection.turn.published += count
            route.count(count)
            if first is not None:
                body_bytes = len(tail) - before - count * (len(rest) + _AROUND_REST_BYTES + len(self._properties))
                first.appended(count, body_bytes, is_persistent=facts.is_persistent)
                route.queues[0].appended(expires=facts.expires)
        records = bytes(tail[before:]) if len(route.queues) > 1 else b""
        for queue in route.queues[1:]:
            queue.open_run(facts.priority).append_run(records, count, body_bytes, is_persistent=facts.is_persistent)
            queue.appended(expires=facts.expires)
        if route.channel.confirms is not None:
            route.channel.confirms.published(count, awaits_disk=facts.is_persistent and route.has_durable)
        return after

    @property
    def _body_max(self) -> int:
        connection = self._connection
        return min(connection.message_bytes_max, LARGE_BODY_BYTES - 1, connection.frame_max)

    def _is_cut_off(self, view: memoryview, header_end: int, channel: int, body_bytes: int) -> bool:
        """Whether header and body, in one frame, look right so far and end behind the view."""
        end = len(view)
        if header_end > end:
            return True
        if not 0 < body_bytes <= self._body_max or header_end + body_bytes + _OVERHEAD <= end:
            return False
        return end - header_end < _FRAME.size or _FRAME.unpack_from(view, header_end) == (
            frames.BODY,
            channel,
            body_bytes,
        )

    def _inspect(self, payload: bytes) -> bool:
        """Make `_properties` and `_facts` those of this header payload, end octet included.

        False when it is broken, or asks for something that is not to be done on the way.
        """
        following = payload[properties.SIZE_END :]
        if following != self._properties:
            try:
                self._facts = properties.inspect(payload[:-1])
            except Refusal:
                return False
            self._properties = following
            self._is_plain = is_plain(self._connection, self._facts)
        return self._is_plain

    def _acknowledge(self, view: memoryview, position: int, number: int) -> int:
        channel = self._connection.channels.get(number)
        if (
            channel is None
            or channel.state is not ChannelState.OPEN
            or channel.content is not None
            or channel.transaction is not None
        ):
            return position
        tags: array[int] = array("Q")
        take_acknowledgements(view, position, number, tags)
        if tags:
            return position + _ACK_FRAME_BYTES * acknowledge_each(channel, tags)
        if len(view) - position < _ACK_FRAME_BYTES or view[position + _ACK_FRAME_BYTES - 1] != frames.END:
            return position
        _kind, _number, _size, _index, tag, multiple = _ACK.unpack_from(view, position)
        try:
            acknowledge(channel, tag, multiple=bool(multiple & 1))
        except Refusal:
            return position  # nothing was taken from the ledger; the careful way refuses it again, and says so
        return position + _ACK_FRAME_BYTES
