"""Things that stand: many connections, or many queues, made and held, so that one can see what they cost the broker."""

import os
import random
import resource
import select
import time
from typing import Any, Final

import click
from msgspec import structs
from pamqp import commands

from runtime.cli.perf.alarm import Alarm, heard_signals
from runtime.cli.perf.client import Client, Greeting, Refused, close_all, encoded, open_client, open_connection
from runtime.cli.perf.options import COUNT, SECONDS, JsonObject
from runtime.cli.perf.report import Voice
from runtime.cli.perf.target import Target, reaching

AT_ONCE: Final = 200  # requests in one write where nobody waits for answers
RECEIVE_BYTES: Final = 64 * 1024


@click.command("connection-count")
@reaching
@click.option("-x", "--count", type=COUNT, default=100, show_default=True, help="Number of connections.")
@click.option("-c", "--channels", type=COUNT, default=1, show_default=True, help="Channels on each connection.")
@click.option("-C", "--consumers", type=COUNT, default=0, show_default=True, help="Consumers on each channel.")
@click.option("-u", "--queue", default="connection-count", show_default=True, help="Queue they consume from.")
@click.option("-l", "--localhost", is_flag=True, help="Connect to random addresses of 127.0.0.0/16: more ports.")
@click.option("-z", "--time", "seconds", type=SECONDS, default=0, help="Seconds to hold them; 0: until Ctrl-C.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print the summary only.")
def connection_count(
    *,
    target: Target,
    count: int,
    channels: int,
    consumers: int,
    queue: str,
    localhost: bool,
    seconds: float,
    as_json: bool,
    is_quiet: bool,
) -> None:
    """Open connections and hold them."""
    voice = Voice(as_json, is_quiet)
    _raise_descriptor_limit(count)
    clients: list[Client] = []
    with heard_signals() as alarm:
        try:
            started = time.monotonic()
            while len(clients) < count and not alarm.rings:
                clients.append(_connected(target, localhost=localhost))
                _furnish(clients[-1], channels, consumers, queue)
            elapsed, count = time.monotonic() - started, len(clients)
            what = f"{count} connections, {count * channels} channels, {count * channels * consumers} consumers"
            voice.line(f"{what} in {elapsed:.3f} s")
            lost = _hold(clients, seconds, alarm)
        finally:
            _leave(clients, queue if consumers else None)
    values = {"connections": count, "elapsed_seconds": round(elapsed, 3), "avg_rate": _rate(count, elapsed)}
    voice.summary(values | {"lost": lost}, [f"{what}: {_rate(count, elapsed)} connections a second"])
    if lost:
        raise Refused(f"{lost} of {count} connections were closed by the broker")


@click.command("queue-count")
@reaching
@click.option("-q", "--queues", "count", type=COUNT, default=100, show_default=True, help="Number of queues.")
@click.option("-D", "--durable", "is_durable", is_flag=True, help="Durable queues instead of exclusive ones.")
@click.option("-n", "--no-wait", "nowait", is_flag=True, help="Do not wait for the answer to each declaration.")
@click.option("--arguments", type=JsonObject(), default="{}", help="Queue arguments.")
@click.option("--keep", "is_kept", is_flag=True, help="Leave durable queues behind.")
@click.option("-z", "--time", "seconds", type=SECONDS, default=0, help="Seconds to hold them; 0: until Ctrl-C.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Summary as JSON.")
def queue_count(
    *,
    target: Target,
    count: int,
    is_durable: bool,
    nowait: bool,
    arguments: dict[str, Any],
    is_kept: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Declare queues and hold them."""
    voice = Voice(as_json=as_json)
    client = open_client(Greeting(target))
    names = [f"queue-count-{os.getpid()}-{number}" for number in range(count)]
    with heard_signals() as alarm:
        try:
            started = time.monotonic()
            fields = {"durable": is_durable, "exclusive": not is_durable, "arguments": arguments}
            declare, declared = commands.Queue.Declare, commands.Queue.DeclareOk
            _ask_all(client, [(declare, declared, {"queue": name, **fields}) for name in names], nowait=nowait)
            elapsed = time.monotonic() - started
            voice.line(f"{count} queues in {elapsed:.3f} s")
            if _hold([client], seconds, alarm):
                raise Refused(f"{client.target} closed the connection")
        finally:
            if is_durable and not is_kept:
                _delete_all(client, names)
            client.close()
    rate = _rate(count, elapsed)
    values = {"queues": count, "elapsed_seconds": round(elapsed, 3), "avg_rate": rate}
    voice.summary(values, [f"{count} queues: {rate} a second"])


def _ask_all(client: Client, requests: list[tuple[Any, Any, dict[str, Any]]], *, nowait: bool) -> None:
    """Ask one after the other, or without waiting for any but the last, whose answer speaks for all."""
    if not requests:
        return
    if nowait:
        for start in range(0, len(requests) - 1, AT_ONCE):
            some = requests[start : min(start + AT_ONCE, len(requests) - 1)]
            client.send(b"".join(encoded(method, nowait=True, **fields) for method, _, fields in some))
        requests = requests[-1:]
    for method, answer, fields in requests:
        client.call(method, answer, **fields)


def _delete_all(client: Client, names: list[str]) -> None:
    """A broker that is gone needs no clearing."""
    delete, deleted = commands.Queue.Delete, commands.Queue.DeleteOk
    try:
        _ask_all(client, [(delete, deleted, {"queue": name}) for name in names], nowait=True)
    except Refused:
        pass


def _connected(target: Target, *, localhost: bool) -> Client:
    if localhost:
        target = structs.replace(target, host=f"127.0.{random.randrange(256)}.{random.randrange(1, 255)}")  # noqa: S311
    return open_connection(Greeting(target))


def _furnish(client: Client, channels: int, consumers: int, queue: str) -> None:
    for channel in range(1, channels + 1):
        client.ask(encoded(commands.Channel.Open, channel), commands.Channel.OpenOk.index)
        if consumers and channel == 1:
            client.call(commands.Queue.Declare, commands.Queue.DeclareOk, queue=queue, auto_delete=True)
        consume = encoded(commands.Basic.Consume, channel, queue=queue, no_ack=True)
        for _ in range(consumers):
            client.ask(consume, commands.Basic.ConsumeOk.index)


def _hold(clients: list[Client], seconds: float, alarm: Alarm) -> int:
    """Until time has passed or it rings; how many connections were lost meanwhile."""
    lost = 0
    deadline = time.monotonic() + seconds
    with select.epoll() as epoll:
        held = {client.socket.fileno(): client.socket for client in clients}
        for descriptor in held:
            epoll.register(descriptor, select.EPOLLIN)
        epoll.register(alarm, select.EPOLLIN)
        while held and not alarm.rings and (not seconds or time.monotonic() < deadline):
            for descriptor, _ in epoll.poll(max(deadline - time.monotonic(), 0.0) if seconds else None):
                if descriptor in held and not _is_alive(held[descriptor]):
                    epoll.unregister(descriptor)
                    del held[descriptor]
                    lost += 1
    return lost


def _is_alive(connection: Any) -> bool:
    try:
        return bool(connection.recv(RECEIVE_BYTES))
    except OSError:
        return False


def _leave(clients: list[Client], queue: str | None) -> None:
    if queue is not None and clients:
        try:
            clients[0].call(commands.Queue.Delete, commands.Queue.DeleteOk, queue=queue)
        except Refused:
            pass  # it goes with its last consumer anyway
    close_all(clients)


def _rate(count: int, elapsed: float) -> float:
    return round(count / elapsed, 1) if elapsed else 0.0


def _raise_descriptor_limit(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 64
    if soft < needed:
        if hard < needed:
            raise Refused(f"{count} connections need {needed} open files; the limit of this process is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
