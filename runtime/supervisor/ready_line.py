"""The one line on standard output: clients may come, here is where, and these are the processes."""

from collections.abc import Sequence
from pathlib import Path

import trio

from runtime.supervisor.fleet import Fleet


def ready_line(
    listeners: Sequence[trio.SocketListener],
    http: Sequence[trio.SocketListener],
    fleet: Fleet,
    data_directory: Path,
    *,
    supervisor: int,
) -> str:
    """`ebbmq ready: amqp 127.0.0.1:5672; shards 0 (pid 12); supervisor pid 10; http 127.0.0.1:15672; data /…`

    Without `http` where nobody listens for it.
    """
    everywhere = " ".join(addresses(listeners))
    shards = " ".join(f"{shard.number} (pid {shard.pid})" for shard in fleet)
    parts = [f"amqp {everywhere}", f"shards {shards}", f"supervisor pid {supervisor}"]
    if http:
        parts.append(f"http {' '.join(addresses(http))}")
    return f"ebbmq ready: {'; '.join(parts)}; data {data_directory}"


def addresses(listeners: Sequence[trio.SocketListener]) -> tuple[str, ...]:
    """Where clients may come, as `host:port`."""
    return tuple(map(_address, listeners))


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
