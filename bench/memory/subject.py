"""The broker whose memory is watched: EbbMQ, or RabbitMQ as Debian installs it, and how it is asked to give some back.

RabbitMQ knows no way to be asked: it is given the same time.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from bench.fresh_broker import FreshBroker, fresh_broker
from bench.fresh_rabbitmq import find_version, fresh_rabbitmq

EBBMQ: Final = "ebbmq"
RABBITMQ: Final = "rabbitmq"
PRESSURES: Final = 4  # in a row: trim, release, critical, critical
PRESSURE_SECONDS: Final = 0.5


class Subject(Struct, frozen=True):
    port: int
    root: psutil.Process  # the one above all others
    pressure: Path | None = None  # a FIFO that says memory is short, as systemd would; None: knows no such thing
    ours: FreshBroker | None = None

    @property
    def data(self) -> Path | None:
        """An EbbMQ's."""
        return None if self.ours is None else self.ours.data

    @property
    def log(self) -> str:
        """An EbbMQ's, so far."""
        return "" if self.ours is None else self.ours.log

    def ask(self, level: str) -> None:
        """Have it give back memory: "release" by signal, "critical" by pressure that does not end."""
        if self.pressure is None:
            return
        if level == "release":
            self.root.send_signal(signal.SIGUSR1)
        for _ in range(PRESSURES if level == "critical" else 0):
            self.pressure.write_bytes(b"short")
            time.sleep(PRESSURE_SECONDS)


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", choices=(EBBMQ, RABBITMQ), default=EBBMQ)


def name_of(broker: str) -> str:
    """What it is called in a table."""
    return f"RabbitMQ {find_version()}" if broker == RABBITMQ else "EbbMQ"


@contextmanager
def started(broker: str, arguments: Sequence[str] = ()) -> Iterator[Subject]:
    """`arguments` are an EbbMQ's."""
    if broker == RABBITMQ:
        with fresh_rabbitmq() as node:
            yield Subject(node.port, node.root)
        return
    with tempfile.TemporaryDirectory() as directory:
        pressure = Path(directory) / "pressure"
        os.mkfifo(pressure)
        quickly = ["--set", f"compaction.cool_down_seconds={PRESSURE_SECONDS / 2}"]
        with fresh_broker(arguments=[*quickly, *arguments], extra={"MEMORY_PRESSURE_WATCH": str(pressure)}) as ours:
            yield Subject(ours.port, ours.supervisor, pressure, ours)
