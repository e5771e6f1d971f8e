"""Plays one client's bytes into a fresh world, cut into pieces this way or that, and tells all that came of it."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from pamqp import commands

from shards.protocols.amqp.connection import ConnectionState
from tests.protocols.conversation import Client, Content, World

Chop = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    return iter((data,))


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def in_chunks(seed: int) -> Chop:
    def chop(data: bytes) -> Iterator[bytes]:
        random = Random(seed)
        start = 0
        while start < len(data):
            end = start + random.choice((1, 3, 7, 8, 20, 100, 1000, 5000))
            yield data[start:end]
            start = end

    return chop


class Outcome(NamedTuple):
    """What a conversation came to; equal for equal bytes, however they arrived."""

    heard: bytes
    state: ConnectionState
    channels: list[tuple[int, str, int, list[str]]]  # number, state, unacknowledged, consumers
    queues: dict[str, tuple[int, int, list[tuple[bytes, bytes, bool]]]]  # ready, unacknowledged, what is in it
    exchanges: dict[str, list[tuple[str, str]]]  # destination and key of each binding


def play(turns: Sequence[bytes], chop: Chop, *, prepare: Callable[[Client], None], **facts: Any) -> Outcome:
    """Each of `turns` arrives within one turn of the pump, in the pieces `chop` cuts it into."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        prepare(world.client().open())
        client = world.client(**facts)
        for turn in turns:
            feed(client, chop(turn))
            world.finish_turn()
        outcome = _outcome(world, client)
        world.close()
        return outcome


def feed(client: Client, pieces: Iterable[bytes]) -> None:
    """Bytes arrive without the turn being finished, except where the connection waits for that."""
    connection = client.connection
    for piece in pieces:
        if connection.state is ConnectionState.CLOSED:
            return
        if not connection.wants_input:
            client.world.finish_turn()
        assert connection.wants_input
        with memoryview(connection.partial + piece) as view:
            connection.receive(view, client.world.now)


def _outcome(world: World, client: Client) -> Outcome:
    connection, vhost = client.connection, world.vhost
    client.collect()
    channels = [
        (channel.number, channel.state.name, len(channel.ledger), sorted(channel.consumers))
        for channel in connection.channels.values()
    ]
    counts = {queue.name: (queue.ready_count, queue.unacknowledged_count) for queue in vhost.queues()}
    state, heard = connection.state, bytes(client.wire)
    client.wire.clear()
    client.disconnect()
    looker = world.client().open()
    return Outcome(
        heard,
        state,
        channels,
        {name: (*counts[name], list(_content(looker, name))) for name in sorted(counts) if vhost.find_queue(name)},
        {
            name: sorted((binding.destination.name, binding.routing_key) for binding in exchange.bindings())
            for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "news")
            if (exchange := vhost.find_exchange(name)) is not None
        },
    )


def _content(looker: Client, queue: str) -> Iterator[tuple[bytes, bytes, bool]]:
    while isinstance(reply := looker.ask(commands.Basic.Get(queue=queue, no_ack=True)), Content):
        yield reply.header, reply.body, reply.method.redelivered
