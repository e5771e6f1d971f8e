"""Makes up conversations: clients who mostly behave, because only they get far, and sometimes do not.

`python -m tests.speed.compose FIRST_SEED COUNT DIRECTORY` writes them as files of the corpus. The same seed gives the
same conversation as long as the broker answers the same, for a client acknowledges what it has heard.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.wire.amqp import frames, methods
from tests.protocols.conversation import content
from tests.speed.stage import CLIENTS, SETTINGS, Kind, Stage, Step, pack

CHANNELS: Final = (1, 2)
QUEUES: Final = ("durable", "transient", "spare")
ROUTES: Final = (
    ("", "durable"),
    ("", "transient"),
    ("amq.fanout", ""),
    ("amq.topic", "a.b"),
    ("amq.direct", "direct"),
    ("", "nowhere"),
)
SIZES: Final = (0, 1, 7, 16, 16, 16, 100, 1000, 4087, 4088, 4089, 9000)
SIZES_SMALL: Final = (0, 1, 16, 16, 30)
SIZES_RARE: Final = (40_000, 131_064, 131_065, LARGE_BODY_BYTES - 1, LARGE_BODY_BYTES, LARGE_BODY_BYTES + 4096)
PROPERTIES: Final = (
    commands.Basic.Properties(),
    commands.Basic.Properties(delivery_mode=2),
    commands.Basic.Properties(delivery_mode=1, priority=5, content_type="text/plain"),
    commands.Basic.Properties(delivery_mode=2, headers={"x-match": "all", "a": 1, "nested": {"b": [True, None]}}),
    commands.Basic.Properties(correlation_id="c" * 200, reply_to="amq.gen-1", message_id="m", expiration="60000"),
)


class Composer:
    """Plays while it writes, so that it knows what every client has been told."""

    def __init__(self, seed: int, directory: Path, *, is_small: bool) -> None:
        self._random = Random(seed)
        self._is_small = is_small
        self._setting = self._random.randrange(len(SETTINGS))
        self._frame_max = SETTINGS[self._setting].frame_max
        self._stage = Stage(directory, self._setting)
        self._steps: list[Step] = []
        self._unsaid = [bytearray() for _ in range(CLIENTS)]
        self._unparsed = [b""] * CLIENTS
        self._tags: dict[tuple[int, int], list[int]] = {}  # to be acknowledged
        self._consumers = 0

    def compose(self, moves: int) -> bytes:
        self._introduce(0)
        for name in QUEUES:
            self._say(0, 1, commands.Queue.Declare(queue=name, durable=name != "transient"))
            self._say(0, 1, commands.Queue.Bind(queue=name, exchange="amq.fanout"))
        self._say(0, 1, commands.Queue.Bind(queue="transient", exchange="amq.topic", routing_key="a.#"))
        self._say(0, 1, commands.Queue.Bind(queue="durable", exchange="amq.direct", routing_key="direct"))
        for client in range(1, CLIENTS):
            self._introduce(client)
        for client in range(CLIENTS):
            self._arrive(client)
        kinds, weights = zip(*MOVES, strict=True)
        for move in self._random.choices(kinds, weights, k=moves):
            client = self._random.randrange(CLIENTS)
            move(self, client, self._random.choice(CHANNELS))
            if self._random.random() < 0.6:
                self._arrive(client)
        for client in range(CLIENTS):
            self._arrive(client)
        self._take(Kind.TURN)
        self._stage.end()
        return pack(self._setting, self._steps)

    # what clients do --------------------------------------------------------------------------------------------------

    def publish(self, client: int, channel: int) -> None:
        """The same again and again, which is what makes a run, or each one different."""
        random = self._random
        route, properties = random.choice(ROUTES), random.choice(PROPERTIES)
        size = self._size()
        is_steady, is_mandatory = random.random() < 0.7, random.random() < 0.1
        for _ in range(random.choice((1, 1, 3, 10, 40)) if size < 10_000 else 1):
            if not is_steady:
                route, properties, size = random.choice(ROUTES), random.choice(PROPERTIES), min(self._size(), 9000)
            self._unsaid[client] += content(
                *route,
                random.randbytes(size),
                channel=channel,
                mandatory=is_mandatory,
                properties=properties,
                frame_max=self._frame_max if random.random() < 0.9 else 4096,
            )

    def acknowledge_each(self, client: int, channel: int) -> None:
        tags = self._tags.get((client, channel), [])
        taken = tags[: self._random.choice((1, 3, 20, 100))]
        if self._random.random() < 0.2:
            self._random.shuffle(taken)
        if self._random.random() < 0.1:
            taken = taken[::2]
        self._acknowledge(client, channel, taken, multiple=False)

    def acknowledge_all(self, client: int, channel: int) -> None:
        tags = self._tags.get((client, channel), [])
        if tags:
            last = self._random.choice(tags)
            self._say(client, channel, commands.Basic.Ack(self._random.choice((last, last, last, 0)), True))
            tags[:] = [tag for tag in tags if tag > last]

    def acknowledge_wrong(self, client: int, channel: int) -> None:
        tag = self._random.choice((0, 1, 2**63, 2**64 - 1, self._random.randrange(1000)))
        self._unsaid[client] += frames.pack(
            frames.METHOD, channel, b"\x00\x3c\x00\x50" + tag.to_bytes(8, "big") + self._random.choice((b"\0", b"\1"))
        )

    def reject(self, client: int, channel: int) -> None:
        tags = self._tags.get((client, channel), [])
        if tags:
            tag = tags.pop(self._random.randrange(len(tags)))
            requeue = self._random.random() < 0.7
            if self._random.random() < 0.5:
                self._say(client, channel, commands.Basic.Reject(tag, requeue))
            else:
                self._say(client, channel, commands.Basic.Nack(tag, self._random.random() < 0.3, requeue))

    def consume(self, client: int, channel: int) -> None:
        self._consumers += 1
        acks = self._random.random() < 0.6
        tag = f"{'ack' if acks else 'no'}{self._consumers}"
        queue = self._random.choice(QUEUES)
        self._say(client, channel, commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=not acks))

    def cancel(self, client: int, channel: int) -> None:
        if self._consumers:
            tag = self._random.randrange(self._consumers) + 1
            self._say(client, channel, commands.Basic.Cancel(self._random.choice((f"ack{tag}", f"no{tag}"))))

    def get(self, client: int, channel: int) -> None:
        for _ in range(self._random.choice((1, 1, 5))):
            self._say(client, channel, commands.Basic.Get(queue=self._random.choice(QUEUES)))

    def limit(self, client: int, channel: int) -> None:
        count = self._random.choice((0, 1, 2, 10, 100))
        self._say(client, channel, commands.Basic.Qos(0, count, self._random.random() < 0.3))

    def confirm(self, client: int, channel: int) -> None:
        self._say(client, channel, commands.Confirm.Select())

    def recover(self, client: int, channel: int) -> None:
        self._say(client, channel, commands.Basic.Recover(True))
        self._tags.pop((client, channel), None)

    def purge(self, client: int, channel: int) -> None:
        self._say(client, channel, commands.Queue.Purge(queue=self._random.choice(QUEUES)))

    def replace_queue(self, client: int, channel: int) -> None:
        self._say(client, channel, commands.Queue.Delete(queue="spare"))
        self._say(client, channel, commands.Queue.Declare(queue="spare", durable=True))

    def reopen(self, client: int, channel: int) -> None:
        self._say(client, channel, commands.Channel.Close(200, "", 0, 0))
        self._say(client, channel, commands.Channel.Open())
        self._tags.pop((client, channel), None)

    def damage(self, client: int, channel: int) -> None:
        """A byte is not what it should be, in what is said next or after it."""
        unsaid = self._unsaid[client]
        if not unsaid:
            self.publish(client, channel)
        unsaid[self._random.randrange(len(unsaid))] = self._random.choice((0, 1, 0x7F, 0xCE, 0xFF))

    def babble(self, client: int, channel: int) -> None:
        kind = self._random.choice((1, 1, 2, 3, 8, 4))
        self._unsaid[client] += frames.pack(kind, channel, self._random.randbytes(self._random.randrange(30)))

    # what happens to them ---------------------------------------------------------------------------------------------

    def wait(self, client: int, channel: int) -> None:
        self._take(Kind.ADVANCE, data=self._random.choice((1, 1000, 20_000)).to_bytes(4, "little"))

    def stop_reading(self, client: int, channel: int) -> None:
        self._take(Kind.READS, client, b"\0")

    def read_again(self, client: int, channel: int) -> None:
        for other in range(CLIENTS):
            self._take(Kind.READS, other, b"\1")

    def vanish(self, client: int, channel: int) -> None:
        self._take(Kind.LOSE, client)
        self._unsaid[client].clear()
        self._introduce(client)

    def restart(self, client: int, channel: int) -> None:
        self._take(Kind.RESTART)
        for other in range(CLIENTS):
            self._unsaid[other].clear()
            self._introduce(other)

    def compact(self, client: int, channel: int) -> None:
        self._take(Kind.COMPACT, data=bytes((self._random.randrange(3),)))

    # writing ----------------------------------------------------------------------------------------------------------

    def _introduce(self, client: int) -> None:
        self._unparsed[client] = b""
        for channel in CHANNELS:
            self._tags.pop((client, channel), None)
            self._say(client, channel, commands.Channel.Open())

    def _say(self, client: int, channel: int, method: methods.Method) -> None:
        self._unsaid[client] += methods.frame(channel, method)

    def _acknowledge(self, client: int, channel: int, tags: list[int], *, multiple: bool) -> None:
        outstanding = self._tags.get((client, channel), [])
        for tag in tags:
            outstanding.remove(tag)
            self._say(client, channel, commands.Basic.Ack(tag, multiple))

    def _size(self) -> int:
        if self._is_small:
            return self._random.choice(SIZES_SMALL)
        return self._random.choice(SIZES_RARE if self._random.random() < 0.04 else SIZES)

    def _arrive(self, client: int) -> None:
        """Bytes come in pieces, with a turn's end behind them and now and then between them."""
        data = bytes(self._unsaid[client])
        self._unsaid[client].clear()
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.choice((0, 0, 1, 2, 5))))
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            self._take(Kind.RECEIVE, client, data[start:end])
            if self._random.random() < 0.4:
                self._take(Kind.TURN)
        if self._random.random() < 0.8:
            self._take(Kind.TURN)

    def _take(self, kind: Kind, client: int = 0, data: bytes = b"") -> None:
        step = Step(kind, client, data)
        self._steps.append(step)
        self._stage.take(step)
        for number, heard in enumerate(self._stage.heard):
            self._listen(number, heard)

    def _listen(self, client: int, heard: bytes) -> None:
        data = self._unparsed[client] + heard
        position = 0
        while (frame := frames.scan(data, position, self._frame_max)) is not None:
            position = frame.end + 1
            if frame.kind == frames.METHOD:
                self._understand(client, frame.channel, data[frame.start : frame.end])
        self._unparsed[client] = data[position:]

    def _understand(self, client: int, channel: int, payload: bytes) -> None:
        method = methods.decode(payload)
        match method:
            case commands.Basic.Deliver(consumer_tag=str(consumer), delivery_tag=int(tag)) if consumer[0] == "a":
                self._tags.setdefault((client, channel), []).append(tag)
            case commands.Basic.GetOk(delivery_tag=int(tag)):
                self._tags.setdefault((client, channel), []).append(tag)
            case commands.Channel.Close():
                self._tags.pop((client, channel), None)
                self._say(client, channel, commands.Channel.CloseOk())
                self._say(client, channel, commands.Channel.Open())
            case commands.Connection.Close():
                self._steps.append(Step(Kind.LOSE, client))
                self._stage.take(self._steps[-1])
                self._unsaid[client].clear()
                self._introduce(client)
            case _:
                pass


Move = Callable[[Composer, int, int], None]

MOVES: Final[tuple[tuple[Move, int], ...]] = (
    (Composer.publish, 300),
    (Composer.acknowledge_each, 150),
    (Composer.acknowledge_all, 80),
    (Composer.consume, 60),
    (Composer.reject, 40),
    (Composer.get, 50),
    (Composer.limit, 30),
    (Composer.read_again, 40),
    (Composer.stop_reading, 20),
    (Composer.cancel, 20),
    (Composer.confirm, 20),
    (Composer.wait, 20),
    (Composer.compact, 20),
    (Composer.recover, 10),
    (Composer.purge, 10),
    (Composer.replace_queue, 10),
    (Composer.reopen, 10),
    (Composer.vanish, 10),
    (Composer.acknowledge_wrong, 6),
    (Composer.damage, 6),
    (Composer.babble, 4),
    (Composer.restart, 4),
)


def compose(seed: int, moves: int = 60, *, is_small: bool = False) -> bytes:
    """The conversation of this seed; `is_small`: with short bodies only, to be kept in a file."""
    with tempfile.TemporaryDirectory() as directory:
        return Composer(seed, Path(directory), is_small=is_small).compose(moves)


def main() -> None:
    first, count, directory = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for seed in range(first, first + count):
        (directory / f"composed-{seed}.bin").write_bytes(compose(seed, 30, is_small=True))


if __name__ == "__main__":
    main()
