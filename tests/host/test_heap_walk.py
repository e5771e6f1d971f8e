"""Whatever grows in a loaded shard is reached by a compaction pass: the heap is walked, the declarations compared."""

import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import structs
from pamqp import commands

from ipc.data_directory import DataDirectory
from ipc.link import Link, link_pair
from ipc.messages.commands import Level, Permissions, ShardCommand, TopicPermissions
from ipc.messages.reports import SORTS
from ipc.messages.rules import Policy, Rules
from ipc.settings import CompactionSettings, Settings, StoreSettings
from shards.compaction.accounting import Account
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Compactable, Freed, ShrinkPolicy, Step
from shards.host.shard import Shard
from shards.store.journal import Journal
from shards.store.message_store import MessageStore
from shards.store.recovery import RecoveryReport
from tests.compaction.heap_walk import declared, owners, unreached
from tests.protocols.conversation import Client, World, content
from tests.store.messages import record, take

ABSTRACT = {"Bindable", "Compactable", "Consumer", "Exchange"}
"""Classes of owners of which nothing is made, only of what is derived from them."""
NOT_WALKED = {"ChannelConsumer"}
"""Owners without a collection of their own, which nobody lists among its children."""

KINDS = {
    *("bindings", "channels", "connections", "consumers", "exchanges", "open files", "outbox", "partial input"),
    *("permissions", "policies", "queues", "receive buffer", "route cache", "segment index", "sockets", "stores"),
    *("transactions", "turn", "unacknowledged", "unwritten messages", "vhost"),
}
"""What the account of a loaded shard must tell apart."""

BOUNDED: tuple[str, ...] = (
    "Binding < dict",  # one field table, bounded by its frame
    "Tally < array",  # a number for each kind of thing that is counted
    "Source < tuple < array",  # of tallies
    "Route < tuple < array",
    "Access < dict",  # three patterns; what it remembers of answers is declared
    "Definitions < Connection < ",  # SQLite's statements, of which it keeps a fixed number
)
"""Parts of paths to collections that cannot grow without a new owner."""


class LoadedShard(World):
    """The protocol tests' world around a real shard object, so that host, core and store hang together as in life."""

    def __init__(self, directory: Path) -> None:
        ours, self._theirs = link_pair()
        link: Link[ShardCommand] = Link(ours, ShardCommand)
        self.shard = Shard(0, Settings(), link, DataDirectory(directory))
        self.sockets: list[socket.socket] = []
        super().__init__(directory, shard=self.shard)

    def connect(self) -> Client:
        client = self.client()
        ours, theirs = socket.socketpair()
        self.sockets.append(theirs)
        self.shard.pump.adopt(ours, client.connection, self.now)
        return client


@contextmanager
def loaded_world(directory: Path) -> Iterator[LoadedShard]:
    async def enclosed() -> LoadedShard:
        return LoadedShard(directory)

    directory.mkdir(exist_ok=True)
    world = trio.run(enclosed)
    load(world)
    try:
        yield world
    finally:
        world.shard.pump.close()
        for end in world.sockets:
            end.close()


@contextmanager
def loaded_shard(directory: Path) -> Iterator[Shard]:
    """A shard with some of everything, a store from before its last start included; its clients are of no more use."""
    with loaded_world(directory) as world:
        world.vhost.queue("terms3").store = restarted(world, directory)
        yield world.shard


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[LoadedShard]:
    with loaded_world(tmp_path) as world:
        yield world


def load(world: LoadedShard) -> None:
    """Everything issue and design name: connections, channels, consumers, unacknowledged, bindings of every type, …"""
    policies = tuple(Policy(f"p{number}", f"^q{number}$", {"max-length": 1000}) for number in range(5))
    assert not any(world.vhost.change_rules(Rules(policies, policies), world.now))
    for number in range(5):
        client = world.connect()
        for channel in range(1, 4):
            client.open(channel)
        client.ask(commands.Confirm.Select(), 1)
        for kind in ("direct", "fanout", "topic", "headers"):
            client.ask(commands.Exchange.Declare(exchange=f"x.{kind}", exchange_type=kind, durable=True))
        client.ask(commands.Exchange.Bind(destination="x.fanout", source="x.topic", routing_key="to.#"))
        queue = f"q{number}"
        client.ask(commands.Queue.Declare(queue=queue, durable=True))
        for kind in ("jump", "ring"):
            hashing = commands.Exchange.Declare(exchange=f"x.{kind}", exchange_type="x-consistent-hash")
            hashing.arguments = {"x-algorithm": kind}
            client.ask(hashing)
            client.ask(commands.Queue.Bind(queue=queue, exchange=f"x.{kind}", routing_key="3"))
        client.ask(commands.Queue.Declare(queue=f"exclusive{number}", exclusive=True))
        deduplicate(client, number)
        delay(client, number)
        for kind in ("direct", "fanout", "topic", "headers"):
            arguments: dict[str, Any] = {"x-match": "any", "number": number} if kind == "headers" else {}
            client.ask(
                commands.Queue.Bind(queue=queue, exchange=f"x.{kind}", routing_key=f"a.{number}.*", arguments=arguments)
            )
        for body in range(30):
            client.publish("", queue, b"%d" % body, persistent=True)
            client.publish("x.topic", f"a.{number}.b", b"x")
        client.replies()
        begin_transaction(client.open(4), queue)
        client.consume("amq.rabbitmq.reply-to", channel=4)
        client.say(commands.Basic.Qos(prefetch_count=10))
        client.say(commands.Basic.Consume(queue=queue, consumer_tag="some"), 1)
        client.say(commands.Basic.Consume(queue=queue, no_ack=True, consumer_tag="others"), 2)
        client.replies()
        client.say(commands.Basic.Nack(delivery_tag=3, requeue=True), 1)
        client.say(commands.Basic.Get(queue=queue), 3)
        client.replies()

    load_what_is_rare(world)


def load_what_is_rare(world: LoadedShard) -> None:
    """Messages half received, replies unread, terms that make appointments, returns that are counted, old segments."""
    client = world.connect()
    client.open()
    for number in range(4):
        terms: Any = {"x-message-ttl": 1_000_000 + 1000 * number, "x-delivery-limit": 20, "x-max-length": 500}
        client.ask(commands.Queue.Declare(queue=f"terms{number}", durable=True, arguments=terms))
        for _ in range(4):
            client.publish("", f"terms{number}", b"x" * 100, persistent=True)
        client.say(commands.Basic.Consume(queue=f"terms{number}", consumer_tag=f"terms{number}"))
        client.replies()
        client.say(commands.Basic.Nack(delivery_tag=5 * number + 1, requeue=True))
        client.replies()
    client.ask(commands.Queue.Declare(queue="ranked", durable=True, arguments={"x-max-priority": 9}))
    for priority in range(10):
        ranked = commands.Basic.Properties(priority=priority, delivery_mode=2)
        client.publish("", "ranked", b"x", properties=ranked)
    client.ask(commands.Exchange.Declare(exchange="x.gone", exchange_type="x-consistent-hash"))
    client.publish("", "terms1", b"x" * 200_000)  # in two frames
    client.send(content("", "terms0", b"x" * 5000)[:-3000])
    for number in range(3):
        policies = Permissions(".*", ".*", ".*", topics=(TopicPermissions("x.topic", ".*", ".*"),))
        access = world.vhosts.access(f"user{number}", "/", policies)
        for word in range(3):
            access.require_topic("write", "x.topic", f"a.{word}")


def restarted(world: LoadedShard, tmp_path: Path) -> MessageStore:
    """A store as recovery makes it: of records some were settled before they were written, some before the last start,
    some had come back; and a block is damaged."""
    journal = Journal(world.files, str(tmp_path / "journal"))
    store = MessageStore(world.files, str(tmp_path / "old"), StoreSettings(), durable=True, journal=journal, store=1)
    for number in range(3):
        store.append(record(number))
    store.note()
    store.settle(take(store, 1)[0][0])
    for position, _body in take(store):
        store.note_return(position)
        store.requeue(position)
    store.write_back(1_000_000, whole=True)
    for number in range(60):
        store.append(record(number))
        if number % 20 == 19:
            store.flush()
    for position, _body in take(store)[2::2]:
        store.settle(position)
    store.close()
    (segment,) = (tmp_path / "old").glob("*.messages")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    found = MessageStore.recover(world.files, str(tmp_path / "old"), StoreSettings(), RecoveryReport())
    assert found is not None
    return found


def deduplicate(client: Client, number: int) -> None:
    """A queue and an exchange that remember some messages each."""
    arguments: Any = {"x-message-deduplication": True}
    client.ask(commands.Queue.Declare(queue=f"once{number}", arguments=arguments))
    client.ask(commands.Exchange.Declare(exchange="x.once", exchange_type="topic", arguments=arguments))
    for exchange, key in (("", f"once{number}"), ("x.once", "nowhere")):
        for body in range(10):
            headers: Any = {"x-deduplication-header": f"{number}.{body}"}
            client.publish(exchange, key, b"x", properties=commands.Basic.Properties(headers=headers))
    client.replies()


def delay(client: Client, number: int) -> None:
    """Messages that wait at an exchange."""
    arguments: Any = {"x-delayed-type": "topic"}
    client.ask(
        commands.Exchange.Declare(
            exchange="x.delayed", exchange_type="x-delayed-message", durable=True, arguments=arguments
        )
    )
    client.ask(commands.Queue.Bind(queue=f"once{number}", exchange="x.delayed", routing_key=f"a.{number}.*"))
    for body in range(30):
        headers: Any = {"x-delay": 1_000_000 + body}
        client.publish("x.delayed", "a.b.c", b"x", properties=commands.Basic.Properties(headers=headers))
    client.replies()


def begin_transaction(client: Client, queue: str) -> None:
    """On channel 4, with something to publish and to settle."""
    client.ask(commands.Tx.Select(), 4)
    for tag in (1, 2):
        client.publish("", queue, b"uncommitted", channel=4)
        client.get(queue, acks=True, channel=4)
        client.ack(tag, channel=4)


def test_the_cascade_reaches_every_growing_collection_of_a_loaded_shard(tmp_path: Path) -> None:
    with loaded_shard(tmp_path) as shard:
        assert not unreached(shard, entries_min=2, is_expected=is_bounded)


def is_bounded(path: str, found: Any) -> bool:
    is_field_table = isinstance(found, dict) and all(str(name).startswith("x-") for name in found)
    return is_field_table or any(part in path for part in BOUNDED)


def test_every_kind_of_owner_there_is_was_loaded_and_reached(tmp_path: Path) -> None:
    """Otherwise the walk would prove nothing about it; whoever adds an owner adds it to the load."""
    with loaded_shard(tmp_path) as shard:
        kinds = {type(owner).__name__ for owner in owners(shard)}

    assert kinds == {owner.__name__ for owner in kinds_of_owners()} - ABSTRACT - NOT_WALKED


def kinds_of_owners(base: type[Compactable] = Compactable) -> Iterator[type[Compactable]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("shards."):
            yield kind
            yield from kinds_of_owners(kind)


def test_a_pass_over_a_loaded_shard_changes_nothing_a_client_can_see(loaded: LoadedShard) -> None:
    before = [(queue.name, queue.ready_count, queue.unacknowledged_count) for queue in loaded.vhost.queues()]

    policy = ShrinkPolicy.at(CompactionSettings(ratio=1.0, floor_bytes=0), loaded.now)
    steps = list(cascade(loaded.shard, Level.CRITICAL, policy))

    assert sum(getattr(step, "size_bytes", 0) for _label, step in steps) > 0
    assert {label for label, _ in steps} >= {"/"}
    assert [(queue.name, queue.ready_count, queue.unacknowledged_count) for queue in loaded.vhost.queues()] == before
    client = loaded.clients[0]
    client.replies()
    client.publish("x.topic", "a.0.b", b"after the pass")
    assert client.bodies() == [b"after the pass"]


@pytest.mark.parametrize("level", Level)
def test_a_dry_run_over_a_loaded_shard_foretells_a_pass_and_changes_nothing(loaded: LoadedShard, level: Level) -> None:
    policy = ShrinkPolicy.at(CompactionSettings(ratio=1.0, floor_bytes=0), loaded.now)
    dry = structs.replace(policy, is_dry=True)
    held = [[id(collection) for collection in declared(owner)] for owner in owners(loaded.shard)]

    foretold = freed(cascade(loaded.shard, level, dry))

    assert [[id(collection) for collection in declared(owner)] for owner in owners(loaded.shard)] == held
    assert freed(cascade(loaded.shard, level, dry)) == foretold
    assert freed(cascade(loaded.shard, level, policy)) == foretold


def freed(steps: Iterator[tuple[str, Step]]) -> dict[tuple[str, str], int]:
    """Bytes by label and kind."""
    found: Counter[tuple[str, str]] = Counter()
    for label, step in steps:
        if isinstance(step, Freed) and step.size_bytes:
            found[label, step.kind] += step.size_bytes
    return found


def test_everything_that_a_pass_reaches_is_in_the_account(loaded: LoadedShard) -> None:
    reached = list(owners(loaded.shard))
    collections = {
        id(collection): sys.getsizeof(collection)
        for owner in reached
        for collection in declared(owner)
        if collection is not None
    }

    account = Account(top=1000)
    for _ in account.take(loaded.shard):
        pass

    assert account.owners == len(reached)
    known = sum(map(sys.getsizeof, reached)) + sum(collections.values())
    assert known <= sum(account.by_kind.values())
    named = Counter(type(owner).SORT for owner in reached)
    assert account.counts == {sort: named[sort] for sort in SORTS}
    assert all(account.counts.values())


def test_the_account_tells_what_is_held_for_what(loaded: LoadedShard) -> None:
    account = Account(top=1000)
    for _ in account.take(loaded.shard):
        pass

    assert {kind for kind, size_bytes in account.by_kind.items() if size_bytes} >= KINDS
    assert sum(holding.size_bytes for holding in account.largest("queue")) < account.largest("vhost")[0].size_bytes
    for sort in SORTS:
        for holding in account.largest(sort):
            assert holding.size_bytes == sum(holding.by_kind.values())
    assert {holding.name for holding in account.largest("queue")} >= {f"q{number}" for number in range(5)}
