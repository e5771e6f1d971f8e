"""Publishers and consumers at once: how much goes through, and how long it takes."""

from typing import Any, Final

import click
from msgspec import Struct, structs
from pamqp import commands

from runtime.cli.perf.board import Board, Column
from runtime.cli.perf.client import Client, Closed, Greeting, Refused, open_client
from runtime.cli.perf.consuming import Consumers
from runtime.cli.perf.crew import Crew, Member
from runtime.cli.perf.latency import percentiles
from runtime.cli.perf.load import Load
from runtime.cli.perf.messages import encode_properties
from runtime.cli.perf.options import (
    BODY_BYTES,
    COUNT,
    PROCESSES,
    QUEUES_MAX,
    RATE,
    SECONDS,
    WINDOW,
    WORKERS,
    JsonObject,
)
from runtime.cli.perf.publishing import Publishers
from runtime.cli.perf.report import Voice, cpu_seconds, tool_values, worker_sentences
from runtime.cli.perf.target import reaching
from runtime.cli.perf.turns import spread

NOT_FOUND: Final = 404
TIMED_BYTES_MIN: Final = 8


@click.command()
@reaching
@click.option(
    "-x",
    "--publishers",
    "--producers",
    "publishers",
    type=WORKERS,
    default=1,
    show_default=True,
    help="Number of publishers.",
)
@click.option("-y", "--consumers", type=WORKERS, default=1, show_default=True, help="Number of consumers.")
@click.option("-s", "--size", "size_bytes", type=BODY_BYTES, default=16, show_default=True, help="Bytes of each body.")
@click.option("-V", "--verify", "is_verified", is_flag=True, help="Compare each body with what was published.")
@click.option("-a", "--ack", "ack_every", type=COUNT, default=0, help="Acknowledge every N messages; 0: no-ack.")
@click.option("-c", "--confirm", "unconfirmed_max", type=WINDOW, default=0, help="Confirms, at most N outstanding.")
@click.option("-t", "--transaction", type=COUNT, default=0, help="Publish N messages a transaction (not yet).")
@click.option("-T", "--ack-transaction", type=COUNT, default=0, help="Acknowledge N a transaction (not yet).")
@click.option("-p", "--persistent", "is_persistent", is_flag=True, help="Persistent messages in a durable queue.")
@click.option("-P", "--prefetch", type=click.IntRange(0, 65535), default=0, help="Messages to prefetch; 0: no limit.")
@click.option("-r", "--rate", "publish_rate", type=RATE, default=0, help="Messages a second a publisher; 0: no limit.")
@click.option("-R", "--consumer-rate", "consume_rate", type=RATE, default=0, help="The same for a consumer.")
@click.option("-z", "--time", "seconds", type=SECONDS, default=0, help="Seconds to run; 0: until Ctrl-C or -C and -D.")
@click.option("-C", "--pmessages", "publish_count", type=COUNT, default=0, help="Publish N messages in all.")
@click.option("-D", "--cmessages", "consume_count", type=COUNT, default=0, help="Consume N messages in all.")
@click.option("-u", "--queue", default="perf-test", show_default=True, help="Queue name.")
@click.option("-k", "--routing-key", help="Routing key; by default the queue's name.")
@click.option("-e", "--exchange", default="", help="Exchange to publish to and bind to; by default the default one.")
@click.option("--queue-args", "queue_arguments", type=JsonObject(), default="{}", help="Queue arguments.")
@click.option("--consumer-args", "consumer_arguments", type=JsonObject(), default="{}", help="Consumer arguments.")
@click.option("--properties", type=JsonObject(), default="{}", help="Properties of the messages.")
@click.option("--queue-pattern", metavar="PATTERN", help="Several queues: % stands for a number, as in 'q-%'.")
@click.option(
    "--queue-pattern-from", "pattern_from", type=COUNT, default=1, show_default=True, help="The first number."
)
@click.option("--queue-pattern-to", "pattern_to", type=COUNT, default=1, show_default=True, help="The last number.")
@click.option("-l", "--latency", "is_timed", is_flag=True, help="Measure latencies (publishers on this host).")
@click.option("-g", "--poll", "polls", is_flag=True, help="Get messages one by one instead of consuming.")
@click.option("--processes", type=PROCESSES, default=0, help="Processes of each kind; 0: at most one a core.")
@click.option("--keep", "is_kept", is_flag=True, help="Leave the queues behind, and do not make them auto-delete.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Summary as JSON; everything else to standard error.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print the summary only.")
def throughput(
    *,
    as_json: bool,
    is_quiet: bool,
    queue: str,
    queue_pattern: str | None,
    pattern_from: int,
    pattern_to: int,
    transaction: int,
    ack_transaction: int,
    **options: Any,
) -> None:
    """Publish and consume as fast as it goes, or at a rate.

    The queue is made for the run and deleted afterwards; one that is there already is used as it is and stays.
    Workers share the queues of a pattern among themselves.
    """
    if transaction or ack_transaction:
        raise click.UsageError("-t and -T: transactions are not supported yet")
    queues = (queue,) if queue_pattern is None else _pattern(queue_pattern, pattern_from, pattern_to)
    load = Load(queues=queues, **options)
    _refuse_contradictions(load)
    _run(load, Voice(as_json, is_quiet))


def _pattern(pattern: str, first: int, last: int) -> tuple[str, ...]:
    if "%" not in pattern:
        raise click.UsageError(f"--queue-pattern {pattern} has no % to put a number in")
    if last - first >= QUEUES_MAX:
        raise click.UsageError(f"--queue-pattern: {last - first + 1} queues are more than {QUEUES_MAX}")
    if last < first:
        raise click.UsageError(f"--queue-pattern-to {last} is below --queue-pattern-from {first}")
    return tuple(pattern.replace("%", str(number), 1) for number in range(first, last + 1))


def _refuse_contradictions(load: Load) -> None:
    if not load.publishers and not load.consumers:
        raise click.UsageError("-x 0 -y 0 leaves nothing to do")
    if load.is_timed and load.size_bytes < TIMED_BYTES_MIN:
        raise click.UsageError(f"-l needs bodies of at least {TIMED_BYTES_MIN} bytes; -s says {load.size_bytes}")
    if 0 < load.prefetch < load.ack_every:
        raise click.UsageError(f"-a {load.ack_every} would wait for ever with -P {load.prefetch}")
    try:
        encode_properties(load.size_bytes, load.properties, is_persistent=load.is_persistent)
    except ValueError as fault:
        raise click.UsageError(f"--properties: {fault}") from fault


# the run --------------------------------------------------------------------------------------------------------------


def _run(load: Load, voice: Voice) -> None:
    greeting = Greeting(load.target)
    control = open_client(greeting)
    stage = Stage(load, control)
    try:
        load = stage.set_up()
        board = Board(load.publishers + load.consumers, with_latencies=load.is_timed)
        cast = _cast(load, greeting, board)
        crew = Crew(board, [*cast.publishers, *cast.consumers])
        with crew.at_work():
            tally = _watch(load, crew, voice)
        _summarize(load, crew, cast, tally, voice)
    finally:
        stage.clear()
        control.close()
    if crew.failures:
        raise Refused(crew.failures[0])
    if different := board.total(Column.DIFFERENT):
        raise Refused(f"{different} of the messages consumed were not what was published")


class Stage:
    """The queues of a run, made before it and gone after it."""

    def __init__(self, load: Load, control: Client) -> None:
        self._load = load
        self._control = control
        self._ours: list[str] = []

    def set_up(self) -> Load:
        """The load with the names the queues really have. Raises Refused."""
        names = tuple(self._declare(queue) for queue in self._load.queues)
        exchange = self._load.exchange
        if exchange:
            for name in names:
                key = self._load.key_of(name)
                bind = commands.Queue.Bind
                self._control.call(bind, commands.Queue.BindOk, queue=name, exchange=exchange, routing_key=key)
        return structs.replace(self._load, queues=names)

    def _declare(self, queue: str) -> str:
        load = self._load
        if queue and self._exists(queue):
            return queue
        declared = self._control.call(
            commands.Queue.Declare,
            commands.Queue.DeclareOk,
            queue=queue,
            durable=load.is_durable,
            auto_delete=not load.is_durable and not load.is_kept,
            arguments=load.queue_arguments,
        )
        name = str(declared.queue)
        if not load.is_kept:
            self._ours.append(name)
        return name

    def _exists(self, queue: str) -> bool:
        try:
            self._control.call(commands.Queue.Declare, commands.Queue.DeclareOk, queue=queue, passive=True)
        except Closed as closed:
            if closed.code != NOT_FOUND:
                raise
            return False
        return True

    def clear(self) -> None:
        """Delete what is ours; a broker that is gone needs no clearing."""
        for name in self._ours:
            try:
                self._control.call(commands.Queue.Delete, commands.Queue.DeleteOk, queue=name)
            except Refused:
                return


class Cast(Struct, frozen=True):
    """Who is in the crew: publishers first, on the board too."""

    publishers: list[Member]
    consumers: list[Member]


def _cast(load: Load, greeting: Greeting, board: Board) -> Cast:
    publishers = [
        Member(_name("publisher", part), Publishers(load, greeting, part), part)
        for part in spread(load.publishers, load.processes)
    ]
    consumers = [
        Member(
            _name("consumer", part),
            Consumers(load, greeting, part, board),
            range(load.publishers + part.start, load.publishers + part.stop),
        )
        for part in spread(load.consumers, load.processes)
    ]
    return Cast(publishers, consumers)


def _name(kind: str, part: range) -> str:
    return f"{kind} {part.start + 1}" if len(part) == 1 else f"{kind}s {part.start + 1} to {part.stop}"


class Tally(Struct, frozen=True):
    """How far all workers together have come, and how far those who came the least and the most far."""

    published: int
    confirmed: int
    refused: int
    consumed: int
    published_min: int
    published_max: int
    consumed_min: int
    consumed_max: int

    @classmethod
    def of(cls, board: Board, load: Load) -> "Tally":
        published = board.values(range(load.publishers), Column.PUBLISHED)
        consumed = board.values(range(load.publishers, board.workers), Column.CONSUMED)
        return cls(
            published=sum(published),
            confirmed=board.total(Column.CONFIRMED),
            refused=board.total(Column.REFUSED),
            consumed=sum(consumed),
            published_min=min(published, default=0),
            published_max=max(published, default=0),
            consumed_min=min(consumed, default=0),
            consumed_max=max(consumed, default=0),
        )


def _watch(load: Load, crew: Crew, voice: Voice) -> Tally:
    """A line a second until the end, whatever brings it; how far it had come then."""
    before = Tally.of(crew.board, load)
    for _ in crew.seconds(load.seconds):
        now = Tally.of(crew.board, load)
        published, consumed = now.published - before.published, now.consumed - before.consumed
        voice.line(f"Publish rate: {published} msgs/s Consume rate: {consumed} msgs/s")
        before = now
    return Tally.of(crew.board, load)


def _summarize(load: Load, crew: Crew, cast: Cast, tally: Tally, voice: Voice) -> None:
    verdict, shares = crew.verdict(), crew.shares()
    publish_seconds, consume_seconds = crew.seconds_of(cast.publishers), crew.seconds_of(cast.consumers)
    publish_rate, consume_rate = _rate(tally.published, publish_seconds), _rate(tally.consumed, consume_seconds)
    latencies = percentiles(crew.board.buckets())
    values: dict[str, Any] = {
        "elapsed_seconds": round(crew.elapsed_seconds, 3),
        "avg_pub_rate": publish_rate,
        "avg_consume_rate": consume_rate,
        "publish_seconds": round(publish_seconds, 3),
        "consume_seconds": round(consume_seconds, 3),
        **structs.asdict(tally),
    }
    if load.is_timed:
        values["latency_count"] = sum(crew.board.buckets())
        values |= {f"latency_{name}_us": round(value, 1) for name, value in latencies.items()}
    values |= tool_values(verdict, shares)
    values["publisher_cpu_seconds"] = cpu_seconds(shares[: len(cast.publishers)])
    values["consumer_cpu_seconds"] = cpu_seconds(shares[len(cast.publishers) :])
    sentences = [f"Average publish rate: {publish_rate} msgs/s", f"Average consume rate: {consume_rate} msgs/s"]
    if load.unconfirmed_max:
        sentences.append(f"Confirmed: {tally.confirmed} messages, refused: {tally.refused}")
    sentences += [f"Latency {name.replace('_', '.')}: {value / 1000:.3f} ms" for name, value in latencies.items()]
    voice.summary(values, sentences + worker_sentences(shares))
    if verdict.note:
        voice.note(verdict.note)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
