"""Everything that decodes what somebody else wrote: each with sound examples, and what it may answer to unsound ones.

A target takes any bytes at all, and either returns or raises one of its refusals. Anything else, an `IndexError` or
a hang, is a finding. Hypothesis feeds them in the suite, `make fuzz` for as long as one likes.
"""

import struct
import tempfile
from array import array
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from pamqp import commands

from ipc.errors import ConnectionRefusal, ExitCode, Refusal, StartRefused
from ipc.limits import CONTROL_REQUEST_BYTES_MAX
from ipc.lines import Lines, LineTooLong
from ipc.link import PacketDecoder
from ipc.messages import control, inventory, management
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
from ipc.messages.logins import Attempt
from ipc.messages.management import ManagementCommand, ManagementReport
from ipc.messages.reports import ChildEnded, Hello, ShardReport, TemplateReport, VHostFailed
from ipc.messages.rules import Policy, Rules
from ipc.settings import Settings, StoreSettings
from ipc.wire.amqp import amending, frames, methods, properties
from ipc.wire.amqp.negotiation import Enter, Negotiation, Prove, State, make_offer
from ipc.wire.amqp.tables import check_table, decode_table, raw_elements, raw_fields
from runtime.control.server import read_request
from runtime.decisions.sniffing import sniff
from runtime.supervisor import manifest
from shards.store import ack_log, record
from shards.store.arguments import decode_arguments, encode_arguments
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from shards.store.register import Register, SegmentFacts
from shards.store.replay import replay
from tests.clients.raw_client import PROTOCOL_HEADER, open_vhost
from tests.protocols.conversation import World, content
from tests.simulation.simulated_files import SimulatedFiles
from tests.store.messages import record as message_record
from tests.store.messages import take

FRAME_MAX: Final = 4096
_GOLDEN: Final = Path(__file__).parents[1] / "store" / "golden" / "format-1"
_SETTINGS: Final = StoreSettings(segment_bytes_max=64 * 1024)
_QUEUE: Final = "/queue"
_MEMORY: Final = Path("/dev/shm")


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


def ask_over_the_socket(data: bytes) -> None:
    """Lines as they come over the control socket, cut anywhere; each is a request, or is refused."""
    lines = Lines(CONTROL_REQUEST_BYTES_MAX)
    position = 0
    while position < len(data):
        size = 1 + data[position] % 64
        for line in lines.feed(data[position : position + size]):
            try:
                request = read_request(line)
            except msgspec.MsgspecError:
                continue
            assert read_request(msgspec.json.encode(request)) == request
        position += size


@cache
def control_examples() -> Sequence[bytes]:
    asked: list[control.Request] = [
        control.Status(),
        control.Memory(vhost="/", top=3),
        control.Compact("critical"),
        control.PauseQueue("jobs", "ß"),
        control.LoginAttempts(by_source=True),
        control.BackUp("/srv/backup"),
    ]
    encoded = [msgspec.json.encode(one) for one in asked]
    depth = b"[" * 5000
    return [b"\n".join(encoded) + b"\n", b"\r\n".join(reversed(encoded)) + b"\r\n", depth, b'{"ask":"\xff"}\n']


@cache
def management_examples() -> Sequence[bytes]:
    """Both ways."""
    said: list[msgspec.Struct] = [
        Hello("0123456789abcdef", "management", 17),
        management.AskShards(3, "/", inventory_examples()[0]),
        management.Enter(4, "guest", "/", "name", is_literal=True),
        management.AskSupervisor(5, control.Memory("/", 3)),
        management.Follow(6),
        management.MayTry(7, "guest", "127.0.0.1"),
        management.Attempted(8, Attempt("http", "guest", "::1", "wrong")),
        management.Begin(Settings(), "/data", 1.5, ("127.0.0.1:5672",), 17),
        management.Heard(3, 1, b"piece"),
        management.Told(5, control.Refused("bad-request", "because")),
        management.Barred(4, 403, "no"),
        management.Patience(7, 0.5),
        management.Over(3, {1: "is gone"}),
    ]
    return [msgspec.msgpack.encode(one) for one in said]


@cache
def inventory_examples() -> Sequence[bytes]:
    """What shards are asked on somebody's behalf."""
    behalf = inventory.Behalf("guest", Permissions(".*", ".*", ".*"))
    asked: list[inventory.Asked] = [
        inventory.Rank("queue", "/", frozenset({"/"}), (("state", "running"),), "jo", True, "messages", True, 100),
        inventory.Describe("connection", (("/", ("name",)),), in_detail=True),
        inventory.Pause("/", "jobs", is_paused=True, behalf=behalf),
    ]
    return [msgspec.msgpack.encode(one) for one in asked]


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


_JOURNAL: Final = "/journal"
_STORES: Final = 2


def _directory_of(number: int) -> str | None:
    return f"/queues/{number}" if number < _STORES else None


def replay_journal(data: bytes) -> None:
    """As the only file of a journal: a reader finds what is put in its place, and another start changes nothing."""
    files = SimulatedFiles()
    for directory in (_JOURNAL, "/queues/0", "/queues/1"):
        files.make_directory(directory, sync=True)
    files.create(f"{_JOURNAL}/0000000001.journal", len(data), sync=True)
    files.overwrite(f"{_JOURNAL}/0000000001.journal", 0, data)
    report = RecoveryReport()
    replay(files, _JOURNAL, _directory_of, report)
    assert files.list(_JOURNAL) == []
    names = files.names()
    replay(files, _JOURNAL, _directory_of, report)
    assert files.names() == names
    for number in range(_STORES):
        store = MessageStore.recover(files, f"/queues/{number}", _SETTINGS, report)
        if store is not None:
            announced = store.ready_count
            assert len(take(store)) == announced


@cache
def journal_examples() -> Sequence[bytes]:
    """What turns of two queues have noted: messages, settlements, one that came back."""
    files = SimulatedFiles()
    journal = Journal(files, _JOURNAL)
    stores = [
        MessageStore(files, f"/queues/{number}", _SETTINGS, durable=True, journal=journal, store=number)
        for number in range(_STORES)
    ]
    for turn in range(4):
        for store in stores:
            for number in range(5):
                store.append(message_record(b"%d of turn %d" % (number, turn)))
            held = [position for position, _body in take(store, 4)]
            store.settle_many(array("Q", held[::2]))
            store.note_return(held[1])
            store.requeue(held[1])
            store.note()
        journal.write()
    (name,) = files.list(_JOURNAL)
    content = files.content(f"{_JOURNAL}/{name}")
    return [content.rstrip(b"\0") + bytes(8), content]


def load_register(data: bytes) -> None:
    """Whatever is believed of it, it can be gone on with: what is written behind it is found by the next start."""
    files = SimulatedFiles()
    files.make_directory("/vhost", sync=True)
    files.create("/vhost/segments", len(data), sync=True)
    files.overwrite("/vhost/segments", 0, data)
    register = Register(files, "/vhost/segments", tuple)
    known = register.load()
    assert all(number == facts.number for segments in known.values() for number, facts in segments.items())
    register.begin()
    register.sealed(3, _Sealed())
    writing = register.begin_writing()
    assert writing is not None
    writing.run()
    register.end_writing()
    after = Register(files, "/vhost/segments", tuple)
    assert after.load()[3][7] == _SEALED_FACTS
    assert not after.is_complete


_SEALED_FACTS: Final = SegmentFacts(3, 7, 1, 4096, 3, 0, 0, 300, 0, 0, 1)


class _Sealed:
    is_registered = False

    def facts(self, _store: int) -> SegmentFacts:
        return _SEALED_FACTS


@cache
def register_examples() -> Sequence[bytes]:
    """One of a vhost that runs, and one that an end in order has left."""
    files = SimulatedFiles()
    files.make_directory("/vhost", sync=True)
    register = Register(files, "/vhost/segments", tuple)
    found = []
    for _ in range(2):
        register.sealed(3, _Sealed())
        writing = register.begin_writing()
        assert writing is not None
        writing.run()
        register.end_writing()
    found.append(files.content("/vhost/segments"))
    register.close(_SEALED_FACTS._replace(number=number) for number in range(1, 5))
    found.append(files.content("/vhost/segments"))
    return found


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


def read_manifest(data: bytes) -> None:
    """Of a backup; what it names is within it, and nothing of it is there."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        root = Path(directory)
        (root / manifest.NAME).write_bytes(data)
        found = manifest.read(root)
        assert all((root / entry.path).resolve().is_relative_to(root.resolve()) for entry in found.files)
        manifest.verify(root, found)


@cache
def manifest_examples() -> Sequence[bytes]:
    now = datetime(2024, 2, 29, tzinfo=UTC)
    files = (manifest.FileEntry("vhosts/1/definitions.sqlite", 45056, "ab" * 32), manifest.FileEntry("x", 0, ""))
    sound = manifest.Manifest("0.1.0", now, now, (manifest.VHostEntry(1, "/", now),), files)
    none = msgspec.structs.replace(sound, files=())
    return [msgspec.json.format(msgspec.json.encode(one), indent=1) for one in (none, sound)] + [
        b'{"format":' + b"[" * 5000
    ]


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
    "commands to the management process": Target(
        _decoded_as(ManagementCommand), (msgspec.DecodeError,), management_examples
    ),
    "reports of the management process": Target(
        _decoded_as(ManagementReport), (msgspec.DecodeError,), management_examples
    ),
    "inventory requests": Target(
        msgspec.msgpack.Decoder(inventory.Request).decode,
        (msgspec.DecodeError, UnicodeDecodeError, RecursionError),  # where a question is answered, all of them are
        inventory_examples,
    ),
    "journals": Target(replay_journal, (StartRefused,), journal_examples),
    "registers": Target(load_register, (StartRefused,), register_examples),
    "control requests": Target(ask_over_the_socket, (LineTooLong,), control_examples),
    "manifests": Target(read_manifest, (StartRefused,), manifest_examples),
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
