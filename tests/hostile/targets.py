"""Everything that decodes what somebody else wrote: each with sound examples, and what it may answer to unsound ones.

A target takes any bytes at all, and either returns or raises one of its refusals. Anything else, an `IndexError` or
a hang, is a finding. Hypothesis feeds them in the suite, `make fuzz` for as long as one likes.
"""

import struct
import tempfile
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from pamqp import commands

from ipc.errors import ConnectionRefusal, ExitCode, Refusal, StartRefused
from ipc.link import PacketDecoder
from ipc.messages.commands import (
    AdoptClient,
    Compact,
    Drain,
    Level,
    NegotiatedClient,
    OpenVHost,
    Permissions,
    ShardCommand,
    SpawnShard,
    Start,
    TemplateCommand,
)
from ipc.messages.reports import ChildEnded, Hello, ShardReport, TemplateReport, VHostFailed
from ipc.messages.rules import Policy, Rules
from ipc.settings import Settings, StoreSettings
from ipc.wire.amqp import amending, frames, methods, properties
from ipc.wire.amqp.negotiation import Enter, Negotiation, Prove, State, make_offer
from ipc.wire.amqp.tables import check_table, decode_table, raw_elements, raw_fields
from runtime.decisions.sniffing import sniff
from shards.store import ack_log, record
from shards.store.arguments import decode_arguments, encode_arguments
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from tests.clients.raw_client import PROTOCOL_HEADER, open_vhost
from tests.protocols.conversation import World, content
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record as message_record
from tests.store.messages import take

FRAME_MAX: Final = 4096
_GOLDEN: Final = Path(__file__).parents[1] / "store" / "golden" / "format-1"
_SETTINGS: Final = StoreSettings(segment_bytes_max=64 * 1024)
_QUEUE: Final = "/queue"


class Target(NamedTuple):
    """`try_out` may raise `refusals` and nothing else; `examples` are what damage is done to."""

    try_out: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    examples: Callable[[], Sequence[bytes]]


# frames and methods ---------------------------------------------------------------------------------------------------


def scan_frames(data: bytes) -> None:
    position = 0
    while (frame := frames.scan(data, position, FRAME_MAX)) is not None:
        assert position < frame.end < len(data)
        position = frame.end + 1


def decode_method(data: bytes) -> None:
    assert methods.decode(data).index == int.from_bytes(data[:4], "big")


def decode_header(data: bytes) -> None:
    """What got past the inspection can be taken apart and put together again, and comes out the same."""
    properties.body_size(data)
    facts = properties.inspect(data)
    properties.identities(data)
    parts = amending.take_apart(data)
    assert amending.put_together(properties.body_size(data), parts) == data
    if amending.HEADERS in parts:
        fields = amending.fields_of(parts[amending.HEADERS])
        amending.table_of(fields)
        for value in fields.values():
            amending.elements_of(value)
            amending.text_of(value)
            amending.number_of(value)
    properties.headers(data, facts)


def walk_table(data: bytes) -> None:
    check_table(data, 0, len(data))
    for _name, start, end in raw_fields(data, 0, len(data)):
        assert 0 < start < end <= len(data)
        if data[start] == ord("A"):
            list(raw_elements(data, start + 1))
    decode_table(data, 0, len(data))


TABLE: Final[dict[str, Any]] = {
    "text": "ß",
    "number": 2**40,
    "small": 7,
    "truth": True,
    "nothing": None,
    "array": [1, "two", [3.5], {"four": 5}],
    "table": {"in": {"in": {"in": "side"}}},
    "octets": bytearray(b"\x00\xff"),
}


@cache
def method_examples() -> Sequence[bytes]:
    said: list[methods.Method] = [
        commands.Queue.Declare(queue="q", durable=True, arguments=TABLE),
        commands.Queue.Bind(queue="q", exchange="amq.headers", routing_key="a.#", arguments={"x-match": "any"}),
        commands.Exchange.Declare(exchange="e", exchange_type="topic", arguments=TABLE),
        commands.Basic.Publish(exchange="e", routing_key="k", mandatory=True),
        commands.Basic.Consume(queue="q", consumer_tag="c", arguments={"x-priority": 3}),
        commands.Basic.Qos(prefetch_count=3),
        commands.Basic.Ack(3, True),
        commands.Basic.Nack(3, True, True),
        commands.Channel.Close(200, "bye", 60, 40),
        commands.Connection.StartOk(TABLE, "PLAIN", "\0guest\0guest", "en_US"),
        commands.Tx.Commit(),
    ]
    return [methods.frame(0, method)[7:-1] for method in said]


@cache
def header_examples() -> Sequence[bytes]:
    made = [
        commands.Basic.Properties(),
        commands.Basic.Properties(delivery_mode=2, priority=4, headers=TABLE),
        commands.Basic.Properties(headers={"CC": ["a", "b"], "BCC": ["c"]}, expiration="60000"),
        commands.Basic.Properties(
            content_type="text/plain", correlation_id="1", reply_to="amq.rabbitmq.reply-to", user_id="guest", app_id="x"
        ),
    ]
    begin = len(methods.frame(1, commands.Basic.Publish()))
    return [content("", "", b"", properties=one, frame_max=FRAME_MAX)[begin + 7 : -1] for one in made]


@cache
def table_examples() -> Sequence[bytes]:
    payloads = header_examples()
    return [payload[payload.index(b"\x00\x00", 14) :] for payload in payloads if amending.HEADERS in _flags(payload)]


def _flags(payload: bytes) -> Mapping[int, bytes]:
    return amending.take_apart(payload)


# negotiation ----------------------------------------------------------------------------------------------------------

_OFFER: Final = make_offer({"product": "x"}, frame_max=131072, channel_max=2047, heartbeat_seconds=60)


def negotiate(data: bytes) -> None:
    """Fed in pieces whose sizes the bytes themselves decide; every wish is granted."""
    negotiation = Negotiation(_OFFER)
    position = 0
    while position < len(data) and negotiation.is_hungry:
        size = 1 + data[position] % 64
        wish = negotiation.receive(data[position : position + size])
        position += size
        while isinstance(wish, Prove):
            wish = negotiation.accept(wish.user, ())
        assert len(negotiation.take_output()) < 1000
        if isinstance(wish, Enter):
            client = negotiation.freeze("client", wish.vhost, Permissions("", "", ""))
            msgspec.msgpack.encode(AdoptClient(client))
            return
    assert negotiation.state in State


@cache
def negotiation_examples() -> Sequence[bytes]:
    start_ok = commands.Connection.StartOk({"capabilities": {"basic.nack": True}}, "PLAIN", "\0guest\0guest", "en_US")
    amqplain = b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"
    other = methods.frame(0, commands.Connection.StartOk({}, "AMQPLAIN", "", "en_US"))
    payload = other[7:-1].replace(
        b"\x00\x00\x00\x00\x05en_US", struct.pack(">I", len(amqplain)) + amqplain + b"\x05en_US"
    )
    rest = methods.frame(0, commands.Connection.TuneOk(2047, 131072, 60)) + methods.frame(0, open_vhost("/"))
    return [
        PROTOCOL_HEADER + methods.frame(0, start_ok) + rest + b"and what follows",
        PROTOCOL_HEADER + frames.pack(frames.METHOD, 0, payload) + rest,
        PROTOCOL_HEADER + methods.frame(0, commands.Connection.Close(200, "bye", 0, 0)),
    ]


# between processes ----------------------------------------------------------------------------------------------------


def _decoded_as(union: Any) -> Callable[[bytes], object]:
    """What a link of that end makes of a packet."""
    return PacketDecoder(union).decode


@cache
def ipc_examples() -> Sequence[bytes]:
    client = NegotiatedClient("n", "guest", ("administrator",), "/", Permissions(".*", ".*", ".*"), 131072, 2047, 60,
                              "PLAIN", b"\0\0\0\0", frozenset({"basic.nack"}), b"unread")  # fmt: skip
    rules = Rules(policies=(Policy("p", "^q", {"max-length": 3}),), queues_max=5)
    said: list[msgspec.Struct] = [
        Start(1, Settings(), "/data"),
        OpenVHost("/", "/data/1", rules),
        AdoptClient(client),
        Compact(1, Level.TRIM, "SIGUSR1"),
        Drain(1.5),
        SpawnShard(3),
        Hello("0123456789abcdef", "shard", 17),
        VHostFailed("/", "because", True),
        ChildEnded(17, -9),
    ]
    return [msgspec.msgpack.encode(one) for one in said]


# the store ------------------------------------------------------------------------------------------------------------


def recover_segment(data: bytes) -> None:
    """As a queue's only segment, beside a sound ack log; what is found can be read to its end."""
    _recover({"0000000001.messages": data, "0000000001.acks": _golden("0000000001.acks")})


def recover_acks(data: bytes) -> None:
    """As the ack log of a sound segment, after which comes another."""
    found = _recover(
        {name: _golden(name) for name in ("0000000001.messages", "0000000002.messages")} | {"0000000001.acks": data}
    )
    assert len(found) <= 10_000


def recover_ack_log(data: bytes) -> None:
    files = SimulatedFiles()
    files.make_directory(_QUEUE, sync=True)
    files.create(f"{_QUEUE}/1", len(data), sync=True)
    files.overwrite(f"{_QUEUE}/1", 0, data)
    recovered = ack_log.recover(files, f"{_QUEUE}/1", int.from_bytes(_golden("0000000001.acks")[16:20], "little"))
    assert recovered.end <= len(data)
    assert all(first <= end for first, end in recovered.ranges)


def _recover(content_by_name: Mapping[str, bytes]) -> list[tuple[int, bytes]]:
    """Every message that recovery finds, then settled: nothing is left behind."""
    files = SimulatedFiles()
    files.make_directory(_QUEUE, sync=True)
    for name, data in content_by_name.items():
        files.create(f"{_QUEUE}/{name}", len(data), sync=True)
        files.overwrite(f"{_QUEUE}/{name}", 0, data)
    store = MessageStore.recover(files, _QUEUE, _SETTINGS, RecoveryReport())
    if store is None:
        return []
    announced = store.ready_count
    found = take(store)
    assert len(found) == announced, "recovery counted other messages than a reader finds"
    store.append(message_record(b"one more"))
    store.flush()
    found += take(store)
    store.settle_many(array("Q", [position for position, _body in found]))
    store.flush()
    assert store.ready_count == store.unacknowledged_count == 0
    return found


@cache
def _golden(name: str) -> bytes:
    return (_GOLDEN / name).read_bytes().rstrip(b"\0") + bytes(8)


@cache
def segment_examples() -> Sequence[bytes]:
    return [_golden("0000000001.messages"), _golden("0000000002.messages")]


@cache
def acks_examples() -> Sequence[bytes]:
    return [_golden("0000000001.acks")]


@cache
def arguments_examples() -> Sequence[bytes]:
    return [encode_arguments(TABLE), encode_arguments({})]


@cache
def record_examples() -> Sequence[bytes]:
    return [message_record(b"a body"), message_record(b"") + message_record(b"x" * 100)]


def decode_record(data: bytes) -> None:
    """For tools; delivery reads only what a checksum vouches for."""
    record.decode_run(data, 0, len(data))


# conversations --------------------------------------------------------------------------------------------------------


def converse(data: bytes) -> None:
    """As what a client says once it has been let in, with two channels open; nothing breaks, and little is kept."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        client = world.client(frame_max=FRAME_MAX, message_bytes_max=100_000).open()
        world.turn.finish(world.now)
        if client.connection.wants_input:
            with memoryview(methods.frame(2, commands.Channel.Open()) + data) as view:
                client.connection.receive(view, world.now)
        world.finish_turn()
        assert len(client.connection.partial) <= FRAME_MAX + 8
        world.close()


@cache
def conversation_examples() -> Sequence[bytes]:
    declare = methods.frame(1, commands.Queue.Declare(queue="q", durable=True))
    consume = methods.frame(2, commands.Basic.Consume(queue="q", consumer_tag="c"))
    headers = commands.Basic.Properties(delivery_mode=2, headers={"x": 1}, expiration="1")
    return [
        declare + content("", "q", b"dig", frame_max=FRAME_MAX, properties=headers) * 3 + consume,
        declare + consume + methods.frame(2, commands.Basic.Ack(1, False)) + methods.frame(1, commands.Tx.Select()),
        methods.frame(1, commands.Confirm.Select()) + content("amq.topic", "a.b", b"", frame_max=FRAME_MAX),
    ]


TARGETS: Final[Mapping[str, Target]] = {
    "frames": Target(scan_frames, (ConnectionRefusal,), conversation_examples),
    "methods": Target(decode_method, (ConnectionRefusal,), method_examples),
    "content headers": Target(decode_header, (Refusal,), header_examples),
    "tables": Target(walk_table, (ConnectionRefusal,), table_examples),
    "negotiation": Target(negotiate, (), negotiation_examples),
    "sniffing": Target(sniff, (), negotiation_examples),
    "commands": Target(_decoded_as(ShardCommand), (msgspec.DecodeError,), ipc_examples),
    "commands to the template": Target(_decoded_as(TemplateCommand), (msgspec.DecodeError,), ipc_examples),
    "reports": Target(_decoded_as(ShardReport), (msgspec.DecodeError,), ipc_examples),
    "reports of the template": Target(_decoded_as(TemplateReport), (msgspec.DecodeError,), ipc_examples),
    "arguments": Target(decode_arguments, (msgspec.DecodeError, ValueError, ArithmeticError), arguments_examples),
    "segments": Target(recover_segment, (StartRefused,), segment_examples),
    "acknowledgements": Target(recover_acks, (StartRefused,), acks_examples),
    "ack logs": Target(recover_ack_log, (StartRefused,), acks_examples),
    "conversations": Target(converse, (), conversation_examples),
}

REFUSED_STARTS: Final = frozenset((ExitCode.FORMAT_UNKNOWN, ExitCode.STORE_DAMAGED))
"""With what a damaged file may end a start."""


def try_out(target: Target, data: bytes) -> None:
    """Raises what is a finding, and nothing else."""
    try:
        target.try_out(data)
    except target.refusals as refusal:
        if isinstance(refusal, StartRefused) and refusal.exit_code not in REFUSED_STARTS:
            raise AssertionError(f"damage that ends a start with {refusal.exit_code}") from refusal
