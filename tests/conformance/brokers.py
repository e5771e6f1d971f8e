"""What suites talk to: a fresh EbbMQ, or RabbitMQ as the control; either can be ended and started again."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from bench.fresh_rabbitmq import RabbitMQNode, find_version
from tests.clients.running_broker import RunningBroker

LOOPBACK: Final = "127.0.0.1"
LOOPBACK_IPV6: Final = "::1"
_ADDRESSES_MAX: Final = 32


class Broker(Protocol):
    """Of either make, with its data below a directory that is given to it."""

    @property
    def port(self) -> int: ...

    @property
    def log(self) -> str: ...

    def start(self) -> object: ...

    def stop(self) -> object: ...

    def kill(self) -> None: ...

    def end_by_force(self) -> None: ...


class Make(NamedTuple):
    """A make of broker: its name, and how one is prepared in a directory for addresses and a port; port 0 is any."""

    name: str
    new: Callable[[Path, Sequence[str], int], Broker]

    def prepare(self, home: Path, *, addresses: Sequence[str] = (LOOPBACK,), port: int = 0) -> Broker:
        home.mkdir(parents=True)
        return self.new(home, addresses, port)


def ebbmq() -> Make:
    return Make("EbbMQ", lambda home, at, port: RunningBroker(home, arguments=("--bind", ",".join(at)), port=port))


def rabbitmq() -> Make:
    version = find_version()
    if version is None:
        raise SystemExit("the control needs RabbitMQ: on Debian, apt install rabbitmq-server; it need not run")
    return Make(f"RabbitMQ {version}", lambda home, at, port: RabbitMQNode(home, addresses=at, port=port))


def address_with_free(port: int) -> str:
    """Of the loopback network, all of which is this machine's: some suites cannot be told another port than AMQP's."""
    for last in range(1, _ADDRESSES_MAX + 1):
        address = f"127.0.72.{last}"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return address
    raise SystemExit(f"port {port} is taken on every loopback address: is a broker bound to 0.0.0.0?")
