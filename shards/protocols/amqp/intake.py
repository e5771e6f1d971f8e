"""Takes runs of whole publishes and acknowledgements straight out of the receive buffer.

Hot module. The bytes of a `basic.publish` method frame, channel number included, are the key of the route cache, so a
message of a known route costs one look-up, a few integers and one copy into the queue's tail: no method object, no
strings. The first thing that is not whole, not known or not plain ends the run; `connection.py` takes it from there,
frame by frame.
"""

import struct
from typing import TYPE_CHECKING, Final

from ipc.errors import Refusal
from ipc.limits import FRAME_OVERHEAD_BYTES, LARGE_BODY_BYTES
from ipc.wire.amqp import frames, properties
from shards.protocols.amqp.channel import ChannelState
from shards.protocols.amqp.settling import acknowledge
from shards.store import record

if TYPE_CHECKING:
    from shards.protocols.amqp.connection import Connection
    from shards.protocols.amqp.publishing import Route

_FRAME = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIIQB")  # frame header, class and method, delivery tag, multiple
_ACK_FRAME_BYTES: Final = _ACK.size + 1
_ACK_PAYLOAD_BYTES: Final = 13
_ACK_INDEX: Final = 60 << 16 | 80
_HEADER = struct.Struct(">BHIHHQ")  # frame header, class, weight, body size
_OVERHEAD: Final = FRAME_OVERHEAD_BYTES
_PREFIX: Final = frames.HEADER_BYTES


class Intake:
    """The fast way in, for one connection."""

    __slots__ = ("_connection", "_facts", "_properties")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._properties = b""  # of the previous message: publishers tend to repeat themselves
        self._facts = properties.NO_FACTS

    def run(self, view: memoryview, position: int, now: int) -> int:
        """Take what can be taken from `view[position:]`; the index of the first byte that was not.

        Raises nothing: whatever is wrong is left where it is, for the careful way to refuse.
        """
        connection = self._connection
        if connection.turn.is_storage_blocked:
            return position
        end = len(view)
        revision = connection.vhost.revision
        payload_max = connection.frame_max  # as `frames.scan` has it
        body_max = min(connection.message_bytes_max, LARGE_BODY_BYTES - 1, payload_max)
        while end - position > _OVERHEAD:
            kind, number, size = _FRAME.unpack_from(view, position)
            if size == _ACK_PAYLOAD_BYTES and kind == frames.METHOD and self._acknowledged(view, position):
                position += _ACK_FRAME_BYTES
                continue
            header_at = position + size + _OVERHEAD
            if end - header_at < _HEADER.size:
                break
            route = connection.routes.get(bytes(view[position:header_at]))
            if route is None or route.revision != revision or route.channel.content is not None:
                break
            kind, channel, header_bytes, class_id, weight, body_bytes = _HEADER.unpack_from(view, header_at)
            body_at = header_at + header_bytes + _OVERHEAD
            if (
                kind != frames.HEADER
                or channel != number
                or class_id != properties.BASIC_CLASS
                or weight
                or not properties.FIXED_BYTES <= header_bytes <= payload_max
                or body_bytes > body_max
                or body_at > end
                or view[body_at - 1] != frames.END
            ):
                break
            after = body_at
            if body_bytes:
                after += body_bytes + _OVERHEAD
                if (
                    after > end
                    or _FRAME.unpack_from(view, body_at) != (frames.BODY, number, body_bytes)
                    or view[after - 1] != frames.END
                ):
                    break
            if not self._store(
                route, view[header_at + _PREFIX : body_at - 1], view[body_at + _PREFIX : after - 1], now
            ):
                break
            position = after
        return position

    def _store(self, route: "Route", header: memoryview, body: memoryview, now: int) -> bool:
        if bytes(header[properties.SIZE_END :]) != self._properties:
            payload = bytes(header)
            try:
                self._facts = properties.inspect(payload)
            except Refusal:
                return False
            self._properties = payload[properties.SIZE_END :]
        facts = self._facts
        channel = route.channel
        if route.queues:
            flags = record.PERSISTENT if facts.is_persistent else 0
            whole = record.encode(now, flags, facts.priority, route.address, header, body)
            for queue in route.queues:
                queue.append(whole)
        elif route.is_mandatory:
            return False
        if channel.confirms is not None:
            channel.confirms.published(1, awaits_disk=facts.is_persistent and route.has_durable)
        return True

    def _acknowledged(self, view: memoryview, position: int) -> bool:
        if len(view) - position < _ACK_FRAME_BYTES or view[position + _ACK_FRAME_BYTES - 1] != frames.END:
            return False
        _kind, number, _size, index, tag, multiple = _ACK.unpack_from(view, position)
        if index != _ACK_INDEX:
            return False
        channel = self._connection.channels.get(number)
        if channel is None or channel.state is not ChannelState.OPEN or channel.content is not None:
            return False
        try:
            acknowledge(channel, tag, multiple=bool(multiple & 1))
        except Refusal:
            return False  # nothing was taken from the ledger; the careful way refuses it again, and says so
        return True
