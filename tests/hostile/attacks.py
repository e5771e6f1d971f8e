"""What hostile peers do, one function each; the table at the end says how much memory the broker may need for it.

Each leaves its connections as they are at their worst, and the caller looks at the broker meanwhile. Sizes come from
`Scale`: the suite tries a tenth of what `make hostile` does.
"""

import os
import struct
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final, NamedTuple

from pamqp import base, commands, frame, header

from ipc.limits import MIB, PASSWORD_CHECKS_MAX, UNCOMMITTED_BYTES_MAX
from tests.clients.raw_client import PROTOCOL_HEADER, content, open_vhost, publish, raw_frame
from tests.hostile.crowd import Crowd

_METHOD, _HEADER, _BODY = 1, 2, 3
_FRAME_MAX: Final = 131072
_CHANNELS_MAX: Final = 2047


class Scale(NamedTuple):
    """How much of each: whole numbers for `make hostile`, a share of them in the suite."""

    share: float = 0.1

    def of(self, whole: int) -> int:
        return max(1, int(whole * self.share))

    @property
    def seconds(self) -> float:
        """How long a flood lasts."""
        return 4.0 * self.share


def read_scale() -> Scale:
    return Scale(float(os.environ.get("EBBMQ_HOSTILE_SCALE", "0.1")))


class Attack(NamedTuple):
    conduct: Callable[[Crowd, Scale], None]
    grown_bytes_max: int  # of all processes together, while it lasts


def encoded(method: base.Frame | header.ContentHeader, channel: int = 1) -> bytes:
    return bytes(frame.marshal(method, channel))


# before anybody is known ----------------------------------------------------------------------------------------------


def slow_lorises(crowd: Crowd, scale: Scale) -> None:
    """Each says its negotiation byte by byte, always a little before anybody loses patience."""
    crowd.gather(scale.of(1000))
    said = PROTOCOL_HEADER + encoded(commands.Connection.StartOk(client_properties={"product": "x" * 200}), 0)
    deadline = time.monotonic() + scale.seconds
    for at in count():
        if at == len(said) or time.monotonic() > deadline:
            break
        for attacker in crowd:
            attacker.send(said[at : at + 1])


def half_open_connections(crowd: Crowd, scale: Scale) -> None:
    """Far more than may negotiate; none says a word."""
    for _ in range(20):
        crowd.gather(scale.of(500))
        for attacker in crowd:
            attacker.heard()


def garbage(crowd: Crowd, scale: Scale) -> None:
    for attacker in crowd.gather(scale.of(2000)):
        attacker.send(os.urandom(300))


def negotiations_of_four_gigabytes(crowd: Crowd, scale: Scale) -> None:
    for attacker in crowd.gather(scale.of(1000)):
        attacker.send(PROTOCOL_HEADER + struct.pack(">BHI", _METHOD, 0, 0xFFFFFFFF) + bytes(4000))


def bombs_as_client_properties(crowd: Crowd, scale: Scale) -> None:
    """A table that is nested deeply, and one of many elements of one octet."""
    for number, attacker in enumerate(crowd.gather(scale.of(1000))):
        table = nested(1500) if number % 2 else wide(15_000)
        payload = commands.Connection.StartOk.index.to_bytes(4, "big") + table + b"\x05PLAIN\0\0\0\0\0"
        attacker.send(PROTOCOL_HEADER + raw_frame(_METHOD, 0, payload))


def guesses_of_passwords(crowd: Crowd, scale: Scale) -> None:
    """Each guess costs the broker 19 MiB and a thread for a moment, so only so many may be checked at once."""
    for number, attacker in enumerate(crowd.gather(scale.of(300))):
        start_ok = commands.Connection.StartOk(response=f"\0guest\0guess-{number}")
        tune_ok = commands.Connection.TuneOk(_CHANNELS_MAX, _FRAME_MAX, 0)
        attacker.send(PROTOCOL_HEADER + encoded(start_ok, 0) + encoded(tune_ok, 0) + encoded(open_vhost("/"), 0))


# frames ---------------------------------------------------------------------------------------------------------------


def frames_of_four_gigabytes(crowd: Crowd, scale: Scale) -> None:
    for attacker in crowd.enrol(scale.of(100)):
        attacker.send(struct.pack(">BHI", _BODY, 1, 0xFFFFFFFF) + bytes(100_000))


def unknown_frame_types(crowd: Crowd, scale: Scale) -> None:
    for kind, attacker in enumerate(crowd.enrol(scale.of(100)), start=9):
        attacker.send(raw_frame(kind % 256, 1, b"x" * 100) * 1000)


def methods_that_never_end(crowd: Crowd, scale: Scale) -> None:
    """As much of one frame as may be kept, and then octet by octet."""
    whole = encoded(commands.Queue.Declare(queue="q", arguments={"x-note": "x" * (_FRAME_MAX - 100)}))
    attackers = crowd.enrol(scale.of(100))
    for attacker in attackers:
        attacker.insist(whole[:-40], seconds=2)
    deadline = time.monotonic() + scale.seconds
    for at in range(len(whole) - 40, len(whole) - 2):
        for attacker in attackers:
            attacker.send(whole[at : at + 1])
        if time.monotonic() > deadline:
            break


def heartbeats_without_end(crowd: Crowd, scale: Scale) -> None:
    (attacker,) = crowd.enrol(1)
    attacker.flood(raw_frame(8, 0, b"") * 8000, seconds=scale.seconds)


# contents -------------------------------------------------------------------------------------------------------------


def headers_without_bodies(crowd: Crowd, scale: Scale) -> None:
    """On every channel of every connection a message of 100 MB is announced, begun and left alone."""
    channels = range(1, scale.of(_CHANNELS_MAX))
    begun = b"".join(
        encoded(commands.Basic.Publish(routing_key="nowhere"), channel)
        + encoded(header.ContentHeader(body_size=100_000_000), channel)
        + raw_frame(_BODY, channel, b"x" * 100)
        for channel in channels
    )
    for attacker in crowd.enrol(scale.of(20), channels=channels):
        attacker.insist(begun, seconds=5)


def bodies_of_nothing(crowd: Crowd, scale: Scale) -> None:
    """A message of ten octets, in frames of none."""
    (attacker,) = crowd.enrol(1)
    opening = encoded(commands.Basic.Publish(routing_key="nowhere")) + encoded(header.ContentHeader(body_size=10))
    attacker.insist(opening, seconds=2)
    attacker.flood(raw_frame(_BODY, 1, b"") * 8000, seconds=scale.seconds)


def bombs_as_message_headers(crowd: Crowd, scale: Scale) -> None:
    """Ones that are refused, and the largest ones that are not, to a headers exchange that has to look into them."""
    whole = b""
    for table in (nested(30), wide(4000)):
        flags = 1 << 13
        payload = struct.pack(">HHQH", 60, 0, 0, flags) + table
        whole += encoded(commands.Basic.Publish(exchange="amq.headers")) + raw_frame(_HEADER, 1, payload)
    bind = commands.Queue.Bind(queue="", exchange="amq.headers", arguments={"x-match": "all", "a": 1})
    for attacker in crowd.enrol(scale.of(20)):
        attacker.insist(encoded(commands.Queue.Declare(exclusive=True)) + encoded(bind), seconds=2)
        attacker.flood(whole, seconds=scale.seconds / 4)
        refused = struct.pack(">HHQH", 60, 0, 0, 1 << 13) + nested(10_000)
        attacker.send(encoded(commands.Basic.Publish()) + raw_frame(_HEADER, 1, refused))


def messages_of_a_transaction_without_end(crowd: Crowd, scale: Scale) -> None:
    (attacker,) = crowd.enrol(1)
    attacker.insist(encoded(commands.Tx.Select()), seconds=2)
    attacker.flood(publish("nowhere", bytes(100_000)), seconds=2 * scale.seconds)


# those who do not read ------------------------------------------------------------------------------------------------


def consumers_that_never_read(crowd: Crowd, scale: Scale) -> None:
    """Each gets the same messages, again and again, as its queue is its own and its fellows publish to all."""
    attackers = crowd.enrol(scale.of(50))
    for attacker in attackers:
        attacker.insist(
            encoded(commands.Queue.Declare(exclusive=True))
            + encoded(commands.Queue.Bind(queue="", exchange="amq.fanout"))
            + encoded(commands.Basic.Consume(queue="", no_ack=True)),
            seconds=2,
        )
    attackers[0].insist(publish("", bytes(50_000), exchange="amq.fanout") * scale.of(400), seconds=10)


def questions_without_reading_answers(crowd: Crowd, scale: Scale) -> None:
    (attacker,) = crowd.enrol(1)
    attacker.insist(encoded(commands.Queue.Declare(exclusive=True)), seconds=2)
    attacker.insist(publish("", b"unroutable"), seconds=2)
    attacker.flood(encoded(commands.Basic.Qos()) * 4000, seconds=scale.seconds)


def returns_that_nobody_reads(crowd: Crowd, scale: Scale) -> None:
    method = commands.Basic.Publish(routing_key="no such queue", mandatory=True)
    whole = encoded(method) + content(1, bytes(100_000))
    for attacker in crowd.enrol(scale.of(10)):
        attacker.flood(whole, seconds=scale.seconds / 2)


# many of everything ---------------------------------------------------------------------------------------------------


def floods_of_channels(crowd: Crowd, scale: Scale) -> None:
    """Opened and closed, and opened and left."""
    (attacker,) = crowd.enrol(1)
    opened = encoded(commands.Channel.Open(), 2)
    attacker.flood((opened + encoded(commands.Channel.Close(200, "", 0, 0), 2)) * 4000, seconds=scale.seconds)
    every = b"".join(encoded(commands.Channel.Open(), channel) for channel in range(2, _CHANNELS_MAX + 1))
    for attacker in crowd.enrol(scale.of(20)):
        attacker.insist(every, seconds=5)


def consumers_by_the_ten_thousand(crowd: Crowd, scale: Scale) -> None:
    (attacker,) = crowd.enrol(1)
    attacker.insist(encoded(commands.Queue.Declare(queue="crowded", exclusive=True)), seconds=2)
    for number in range(scale.of(10_000)):
        attacker.insist(
            encoded(commands.Basic.Consume(queue="crowded", consumer_tag=f"{number}", nowait=True)), seconds=5
        )
        attacker.heard()
    attacker.flood(publish("crowded", b"to one of you") * 50, seconds=scale.seconds)


def nested(levels: int) -> bytes:
    """A field table in a field table in a field table …"""
    inner = b""
    for _ in range(levels):
        inner = b"\x01aF" + struct.pack(">I", len(inner)) + inner
    return struct.pack(">I", len(inner)) + inner


def wide(elements: int) -> bytes:
    """A field table with an array of elements of one octet."""
    array = b"\x01aA" + struct.pack(">I", elements) + b"V" * elements
    return struct.pack(">I", len(array)) + array


# A broker that was idle needs room for anything at all: buffers, caches, code that runs for the first time, and for
# whoever logs in, be it the bystander, a check of a password.
_PASSWORDS: Final = PASSWORD_CHECKS_MAX * 19 * MIB
_LITTLE: Final = 24 * MIB + _PASSWORDS

ATTACKS: Final[Mapping[str, Attack]] = {
    "slow lorises": Attack(slow_lorises, _LITTLE),
    "half-open connections": Attack(half_open_connections, 40 * MIB + _PASSWORDS),
    "garbage": Attack(garbage, _LITTLE),
    "negotiations of four gigabytes": Attack(negotiations_of_four_gigabytes, _LITTLE),
    "bombs as client properties": Attack(bombs_as_client_properties, 40 * MIB + _PASSWORDS),
    "guesses of passwords": Attack(guesses_of_passwords, _LITTLE),
    "frames of four gigabytes": Attack(frames_of_four_gigabytes, _LITTLE),
    "unknown frame types": Attack(unknown_frame_types, _LITTLE),
    "methods that never end": Attack(methods_that_never_end, _LITTLE + 100 * 3 * _FRAME_MAX),
    "heartbeats without end": Attack(heartbeats_without_end, _LITTLE),
    "headers without bodies": Attack(headers_without_bodies, 100 * MIB),
    "bodies of nothing": Attack(bodies_of_nothing, _LITTLE),
    "bombs as message headers": Attack(bombs_as_message_headers, 40 * MIB + _PASSWORDS),
    "a transaction without end": Attack(messages_of_a_transaction_without_end, 2 * UNCOMMITTED_BYTES_MAX + _LITTLE),
    "consumers that never read": Attack(consumers_that_never_read, 50 * 3 * MIB + _LITTLE),
    "questions without reading answers": Attack(questions_without_reading_answers, _LITTLE),
    "returns that nobody reads": Attack(returns_that_nobody_reads, 10 * 4 * MIB + _LITTLE),
    "floods of channels": Attack(floods_of_channels, 100 * MIB),
    "consumers by the ten thousand": Attack(consumers_by_the_ten_thousand, 60 * MIB),
}
