"""Who takes part in a comparison: a broker of one make and set-up, started fresh."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import psutil
from msgspec import Struct

from bench.fresh_broker import fresh_broker
from bench.fresh_rabbitmq import find_version, fresh_rabbitmq

VHOSTS: Final = ("bench-1", "bench-2", "bench-3", "bench-4")


class Running(Struct, frozen=True):
    """A broker at work; `root` is the process above all others of it."""

    port: int
    root: psutil.Process


class Participant(Struct, frozen=True):
    """`start` takes the directory below which the broker's data goes, None for the system's temporary one."""

    name: str
    start: Callable[[str | None], AbstractContextManager[Running]]
    is_here: Callable[[], bool] = lambda: True


def ebbmq(
    *, shards: int, vhosts: int = 0, interpreted: bool = False
) -> Callable[[str | None], AbstractContextManager[Running]]:
    """With `vhosts` of `VHOSTS`, dealt out to the shards in turn."""

    @contextmanager
    def start(data_on: str | None) -> Iterator[Running]:
        extra = {"EBBMQ_PURE": "1"} if interpreted else {}
        with fresh_broker(shards=shards, data_on=data_on, extra=extra) as broker:
            for number, name in enumerate(VHOSTS[:vhosts]):
                broker.add_vhost(name, shard=number % shards)
            yield Running(broker.port, broker.supervisor)

    return start


@contextmanager
def _rabbitmq(data_on: str | None) -> Iterator[Running]:
    with fresh_rabbitmq(data_on=data_on) as node:
        yield Running(node.port, node.root)


RABBITMQ: Final = Participant(
    f"RabbitMQ {find_version() or ''}".rstrip(), _rabbitmq, lambda: find_version() is not None
)
EBBMQ: Final = Participant("EbbMQ", ebbmq(shards=1))
INTERPRETED: Final = Participant("interpreted", ebbmq(shards=1, interpreted=True))
COMPILED: Final = Participant("compiled", ebbmq(shards=1))
ONE_SHARD: Final = Participant("1 shard", ebbmq(shards=1, vhosts=4))
TWO_SHARDS: Final = Participant("2 shards", ebbmq(shards=2, vhosts=4))
