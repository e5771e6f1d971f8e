"""Things that come and go: how many connections, channels, queues, bindings or consumers a second.

An operation is one coming and one going, answered by the broker. A connection does one after the other; those of one
process wait for their answers together.
"""

import os
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click
from pamqp import commands

from ipc.wire.amqp import frames
from runtime.cli.perf.board import Board, Column, Row
from runtime.cli.perf.client import (
    CHANNEL,
    PATIENCE_SECONDS,
    Client,
    Greeting,
    Refused,
    Steps,
    close_all,
    encoded,
    open_client,
)
from runtime.cli.perf.crew import Crew, Member, Post, Verdict
from runtime.cli.perf.options import PROCESSES, SECONDS, SOME_WORKERS
from runtime.cli.perf.report import Voice, tool_values, worker_sentences
from runtime.cli.perf.target import Target, reaching
from runtime.cli.perf.turns import spread

EXCHANGE: Final = "amq.direct"  # every broker has it
RUN_SECONDS: Final = 5.0

_PLACE: Final = b"name-to-be"  # as long as every fresh name, so that a template's lengths stay true
_OPEN_OK: Final = commands.Channel.OpenOk.index
_CLOSE_OK: Final = commands.Channel.CloseOk.index
_DECLARE_OK: Final = commands.Queue.DeclareOk.index
_DELETE_OK: Final = commands.Queue.DeleteOk.index
_BIND_OK: Final = commands.Queue.BindOk.index
_UNBIND_OK: Final = commands.Queue.UnbindOk.index
_CONSUME_OK: Final = commands.Basic.ConsumeOk.index

Operation = Callable[[], Steps]
Prepare = Callable[[Client, int], Operation]


def fresh_names() -> Iterator[bytes]:
    """No two alike in this process: a hexadecimal number in as many bytes as `_PLACE` has."""
    number = 0
    while True:
        number += 1
        yield b"%0*x" % (len(_PLACE), number)


# what is done over and over -------------------------------------------------------------------------------------------


def channels(_client: Client, _worker: int) -> Operation:
    number = CHANNEL + 1  # channel 1 is open already
    opening = encoded(commands.Channel.Open, number)
    closing = encoded(commands.Channel.Close, number, reply_code=200, reply_text="", class_id=0, method_id=0)

    def once() -> Steps:
        yield opening, _OPEN_OK
        yield closing, _CLOSE_OK

    return once


def transient_queues(_client: Client, _worker: int) -> Operation:
    """Exclusive ones that the broker names."""
    declare = encoded(commands.Queue.Declare, exclusive=True, auto_delete=True)
    delete = commands.Queue.Delete.index.to_bytes(4, "big") + b"\0\0"

    def once() -> Steps:
        payload = yield declare, _DECLARE_OK
        name = payload[4 : 5 + payload[4]]  # its length included
        yield frames.pack(frames.METHOD, CHANNEL, delete + name + b"\0"), _DELETE_OK

    return once


def durable_queues(_client: Client, worker: int) -> Operation:
    name = _own_name("queue-churn", worker) + _PLACE.decode()
    declare = encoded(commands.Queue.Declare, queue=name, durable=True)
    delete = encoded(commands.Queue.Delete, queue=name)
    names = fresh_names()

    def once() -> Steps:
        fresh = next(names)
        yield declare.replace(_PLACE, fresh), _DECLARE_OK
        yield delete.replace(_PLACE, fresh), _DELETE_OK

    return once


def bindings_of_transient(client: Client, _worker: int) -> Operation:
    declared = client.call(commands.Queue.Declare, commands.Queue.DeclareOk, exclusive=True)
    return _bindings(client, str(declared.queue))


def bindings_of_durable(client: Client, worker: int) -> Operation:
    queue = _own_name("bind-churn", worker)
    client.call(commands.Queue.Declare, commands.Queue.DeclareOk, queue=queue, durable=True)
    return _bindings(client, queue)


def _bindings(client: Client, queue: str) -> Operation:
    key = _PLACE.decode()
    bind = encoded(commands.Queue.Bind, queue=queue, exchange=EXCHANGE, routing_key=key)
    unbind = encoded(commands.Queue.Unbind, queue=queue, exchange=EXCHANGE, routing_key=key)
    names = fresh_names()

    def once() -> Steps:
        fresh = next(names)
        yield bind.replace(_PLACE, fresh), _BIND_OK
        yield unbind.replace(_PLACE, fresh), _UNBIND_OK

    return once


def consumers(client: Client, _worker: int) -> Operation:
    """Cancelled without waiting, as lavinmqperf does."""
    declared = client.call(commands.Queue.Declare, commands.Queue.DeclareOk, exclusive=True)
    consume = encoded(commands.Basic.Consume, queue=str(declared.queue), consumer_tag="churn", no_ack=True)
    cancel = encoded(commands.Basic.Cancel, consumer_tag="churn", nowait=True)

    def once() -> Steps:
        yield consume, _CONSUME_OK
        client.request(cancel)

    return once


def _own_name(kind: str, worker: int) -> str:
    return f"{kind}-durable-{os.getppid()}-{worker}-"


# workers --------------------------------------------------------------------------------------------------------------


class Talk:
    """One connection of several: asks, is answered, asks again, until its steps end."""

    def __init__(self, client: Client, steps: Steps, row: Row) -> None:
        self.client = client
        self.row = row
        self._steps = steps
        self._wanted = 0
        self.is_over = False

    def begin(self) -> None:
        self._proceed(None)

    def hear(self) -> None:
        """Take in what can be read, and go on if it is the answer. Raises Refused."""
        try:
            self.client.receive()
            answer = self.client.find_answer(self._wanted)
        except Refused as fault:
            self._steps.throw(fault)  # they know better what it means; none of them goes on after it
            raise
        if answer is not None:
            self._proceed(answer)

    def _proceed(self, answer: bytes | None) -> None:
        try:
            request, self._wanted = next(self._steps) if answer is None else self._steps.send(answer)
        except StopIteration:
            self.is_over = True
        else:
            self.client.request(request)


def talk_together(talks: Sequence[Talk], follow: Callable[[Talk], Talk | None]) -> None:
    """Until all are over and nothing follows them. Raises Refused when an answer takes too long."""
    poller = select.poll()
    waiting: dict[int, Talk] = {}

    def begin(talk: Talk | None) -> None:
        if talk is None:
            return
        talk.begin()
        if not talk.is_over:
            descriptor = talk.client.socket.fileno()
            waiting[descriptor] = talk
            poller.register(descriptor, select.POLLIN)

    for talk in talks:
        begin(talk)
    while waiting:
        found = poller.poll(PATIENCE_SECONDS * 1000)
        if not found:
            target = next(iter(waiting.values())).client.target
            raise Refused(f"{target} did not answer within {PATIENCE_SECONDS:.0f} s")
        for descriptor, _ in found:
            talk = waiting[descriptor]
            talk.hear()
            if talk.is_over:
                poller.unregister(descriptor)  # it may be closed by now, and its number the next one's
                del waiting[descriptor]
                begin(follow(talk))


def nothing_follows(_talk: Talk) -> None:
    return None


class Churners:
    """Workers of one process, each with a connection on which it repeats one operation."""

    def __init__(self, greeting: Greeting, prepare: Prepare, numbers: Sequence[int]) -> None:
        self._greeting = greeting
        self._prepare = prepare
        self._numbers = numbers

    def __call__(self, post: Post) -> None:
        clients = [open_client(self._greeting) for _ in self._numbers]
        talks = [
            Talk(client, repeated(self._prepare(client, number), post, row), row)
            for client, row, number in zip(clients, post.rows, self._numbers, strict=True)
        ]
        post.await_start()
        talk_together(talks, nothing_follows)
        post.note_end()
        for client, number in zip(clients, self._numbers, strict=True):
            if self._prepare is bindings_of_durable:
                queue = _own_name("bind-churn", number)
                client.call(commands.Queue.Delete, commands.Queue.DeleteOk, queue=queue)
        close_all(clients)


def repeated(operation: Operation, post: Post, row: Row) -> Steps:
    words = row.words
    while not post.is_over():
        yield from operation()
        words[Column.OPERATIONS] += 1


class Connecters:
    """Workers of one process whose operation is a whole connection with one channel."""

    def __init__(self, greeting: Greeting, numbers: Sequence[int]) -> None:
        self._greeting = greeting
        self._numbers = numbers

    def __call__(self, post: Post) -> None:
        open_client(self._greeting).close()  # what the broker refuses, it refuses before the clock runs
        post.await_start()
        talk_together([self._talk(row) for row in post.rows], lambda over: self._next(over, post))
        post.note_end()

    def _next(self, over: Talk, post: Post) -> Talk | None:
        over.row.words[Column.OPERATIONS] += 1
        return None if post.is_over() else self._talk(over.row)

    def _talk(self, row: Row) -> Talk:
        client = Client(self._greeting)
        return Talk(client, whole_life(client), row)


def whole_life(client: Client) -> Steps:
    yield from client.opening()
    yield from client.opening_channel()
    yield from client.closing()


# the command line -----------------------------------------------------------------------------------------------------

VARIANTS: Final[dict[str, dict[str, Prepare | None]]] = {
    "connection-churn": {"connection": None},
    "channel-churn": {"channel": channels},
    "queue-churn": {"transient": transient_queues, "durable": durable_queues},
    "bind-churn": {"transient": bindings_of_transient, "durable": bindings_of_durable},
    "consumer-churn": {"consumer": consumers},
}
HELP: Final = {
    "connection-churn": "Open and close a connection with a channel.",
    "channel-churn": "Open and close a channel.",
    "queue-churn": "Declare and delete a queue: first transient ones, then durable ones.",
    "bind-churn": "Bind a queue to amq.direct and unbind it: first a transient one, then a durable one.",
    "consumer-churn": "Begin to consume from a queue and cancel.",
}


def churn_command(name: str) -> click.Command:
    """The command of one scenario; where it has variants, `--only` chooses one."""
    variants = VARIANTS[name]

    def command(
        *, target: Target, workers: int, processes: int, seconds: float, only: str | None, **voice: bool
    ) -> None:
        chosen = variants if only is None else {only: variants[only]}
        churn = Churn(Greeting(target), workers, processes, seconds, Voice(**voice))
        churn.run(name, chosen)

    command.__doc__ = HELP[name]
    for option in (
        click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print the summary only."),
        click.option("-j", "--json", "as_json", is_flag=True, help="Summary as JSON; the rest to standard error."),
        click.option("--only", type=click.Choice(tuple(variants)), hidden=len(variants) == 1, help="One kind only."),
        click.option("-z", "--time", "seconds", type=SECONDS, default=RUN_SECONDS, show_default=True,
                     help="Seconds to run each kind; 0: until Ctrl-C."),
        click.option("--processes", type=PROCESSES, default=1, show_default=True,
                     help="Processes to spread the connections over; 0: at most one a core."),
        click.option("-x", "--connections", "workers", type=SOME_WORKERS, default=1, show_default=True,
                     help="Number of connections that do it at the same time."),
        reaching,
    ):  # fmt: skip
        command = option(command)
    return click.command(name)(command)


class Churn:
    """One scenario from its start to its summary."""

    def __init__(self, greeting: Greeting, workers: int, processes: int, seconds: float, voice: Voice) -> None:
        self._greeting = greeting
        self._parts = spread(workers, processes)
        self._seconds = seconds
        self._voice = voice

    def run(self, name: str, variants: dict[str, Prepare | None]) -> None:
        values: dict[str, Any] = {}
        sentences: list[str] = []
        verdicts: dict[str, Verdict] = {}
        for variant, prepare in variants.items():
            crew = self._crew(prepare)
            with crew.at_work():
                operations = self._watch(crew, variant)
            if crew.failures:
                raise Refused(crew.failures[0])
            rate = round(operations / crew.elapsed_seconds, 1)
            verdicts[variant] = verdict = crew.verdict()
            values[variant] = {
                "elapsed_seconds": round(crew.elapsed_seconds, 3),
                "operations": operations,
                "avg_rate": rate,
                **tool_values(verdict, crew.shares()),
            }
            sentences += [f"{name}, {variant}: {rate} a second", *worker_sentences(crew.shares())]
            if crew.was_interrupted:
                break
        self._voice.summary(values, sentences)
        for variant, verdict in verdicts.items():
            if verdict.note:
                self._voice.note(f"{variant}: {verdict.note}")

    def _crew(self, prepare: Prepare | None) -> Crew:
        def work(numbers: range) -> Callable[[Post], None]:
            return (
                Connecters(self._greeting, numbers) if prepare is None else Churners(self._greeting, prepare, numbers)
            )

        members = [Member(f"client process {n + 1}", work(part), part) for n, part in enumerate(self._parts)]
        return Crew(Board(self._parts[-1].stop), members)

    def _watch(self, crew: Crew, variant: str) -> int:
        """A line a second until the end; how many operations there were then."""
        before = 0
        for _ in crew.seconds(self._seconds):
            now = crew.board.total(Column.OPERATIONS)
            self._voice.line(f"{variant}: {now - before} a second")
            before = now
        return crew.board.total(Column.OPERATIONS)
