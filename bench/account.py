"""What an account of memory costs: CPU seconds an ask, with many queues and connections.

`python -m bench.account [--queues 5000] [--connections 1000] [--seconds 20] [--write]` asks a broker that has
nothing else to do once a second, and reads the CPU time of its shard and its supervisor.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Final

import psutil
from pamqp import body, commands, frame, header

from bench.footprint import connections, mebibytes
from bench.fresh_broker import FreshBroker, fresh_broker
from bench.page import machine, replace_section
from bench.wire import Wire
from ipc.data_directory import DataDirectory
from ipc.messages import control
from runtime.control.client import Answered, conversation
from runtime.supervisor.descriptors import raise_limit

SECTION: Final = "account"
PERIOD_SECONDS: Final = 1.1  # an account serves for a second, so this is one walk an ask
PUBLISHED_SHARE: Final = 2  # every second queue holds a message, and so has a store
BODY: Final = b"x" * 100


def fill(broker: FreshBroker, queues: int) -> Wire:
    """Queues, and a message in every second one of them."""
    wire = Wire(broker.port)
    names = [f"queue-{number}" for number in range(queues)]
    wire.declare_all(names, durable=False)
    wire.socket.sendall(b"".join(map(publish, names[::PUBLISHED_SHARE])))
    wire.depth(names[0], durable=False)  # is answered after all of them were taken in
    return wire


def publish(queue: str) -> bytes:
    method = commands.Basic.Publish(routing_key=queue)
    head = header.ContentHeader(body_size=len(BODY), properties=commands.Basic.Properties())
    return b"".join(frame.marshal(part, 1) for part in (method, head, body.ContentBody(BODY)))


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def asked(broker: FreshBroker, seconds: float) -> tuple[int, list[float], list[Answered]]:
    """How often it was asked in so many seconds, CPU seconds of supervisor and shard meanwhile, and the answers."""
    processes = [broker.supervisor, *broker.shards]
    answers = []
    with conversation(DataDirectory(broker.data)) as asking:
        before = [cpu_seconds(process) for process in processes]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answers.append(asking.ask(control.Memory()))
            time.sleep(PERIOD_SECONDS)
        spent = [cpu_seconds(process) - start for process, start in zip(processes, before, strict=True)]
    return len(answers), spent, answers


def idle(broker: FreshBroker, seconds: float) -> list[float]:
    """CPU seconds of the same when nobody asks."""
    processes = [broker.supervisor, *broker.shards]
    before = [cpu_seconds(process) for process in processes]
    time.sleep(seconds)
    return [cpu_seconds(process) - start for process, start in zip(processes, before, strict=True)]


def rows(broker: FreshBroker, seconds: float) -> list[tuple[str, str]]:
    nothing = idle(broker, seconds)
    count, spent, answers = asked(broker, seconds)
    accounts = [account for answer in answers for account in answer.all(control.ShardMemory)]
    last = accounts[-1]
    known = sum(last.by_kind.values())
    supervisor, shard = ((busy - calm) / count * 1000 for busy, calm in zip(spent, nothing, strict=True))
    return [
        ("owners of memory looked at", f"{last.owners:,}"),
        ("CPU of the shard an ask", f"{shard:.1f} ms"),
        ("of it in the walk, median", milliseconds([account.seconds_cpu for account in accounts])),
        ("CPU of the supervisor an ask", f"{supervisor:.1f} ms"),
        ("longest slice of all walks", milliseconds([max(account.slice_seconds_longest for account in accounts)])),
        ("accounted for, of what the shard has for itself", f"{mebibytes(known)} of {mebibytes(last.reading.private)}"),
    ]


def milliseconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--queues", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    options = parser.parse_args()
    raise_limit()

    with fresh_broker(shards=1) as broker:
        wires = [fill(broker, options.queues), *connections(broker, options.connections)]
        found = rows(broker, options.seconds)
        for wire in wires:
            wire.close()

    what = f"{options.queues:,} queues, half of them with a message, and {options.connections:,} connections"
    table = "\n".join([f"| {what} | |", "|---|---:|", *(f"| {name} | {figure} |" for name, figure in found)])
    text = f"{machine()}; one shard, asked every {PERIOD_SECONDS} s.\n\n{table}\n"
    print(text)
    if options.write:
        replace_section(SECTION, text)


if __name__ == "__main__":
    main()
