"""RabbitMQ as Debian's `rabbitmq-server` installs it, beside whatever else runs: own ports, own directory, own epmd.

The Debian command in /usr/sbin wants the system's directories and user, so the server's own script is started instead.
All it writes, the Erlang cookie too, goes below a temporary HOME. Settings are RabbitMQ's own defaults, as EbbMQ's are
its own.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from bench import process_tree

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
VERSIONS: Final = Path("/usr/lib/rabbitmq/lib")
EPMD: Final = "epmd"

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0
_LOOK_SECONDS: Final = 0.2
_VERSION_PREFIX: Final = "rabbitmq_server-"


class FreshRabbitMQ(NamedTuple):
    """Where it listens, and the process above all others of it."""

    port: int
    root: psutil.Process


def find_version() -> str | None:
    """Of the server installed here, if one is."""
    if not SERVER.exists():
        return None
    found = sorted(VERSIONS.glob(f"{_VERSION_PREFIX}*"))
    return found[-1].name.removeprefix(_VERSION_PREFIX) if found else None


@contextmanager
def fresh_rabbitmq(*, data_on: str | None = None) -> Iterator[FreshRabbitMQ]:
    """Start a node and its port mapper, and end both."""
    port, distribution_port, epmd_port = _free_ports(3)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rabbitmq-bench-", dir=data_on)))
        environment = _environment(home, port, distribution_port, epmd_port)
        # Ours, so that the node starts none in the background, which nobody would end.
        epmd = subprocess.Popen(
            [EPMD, "-port", str(epmd_port), "-address", "127.0.0.1"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_stop, epmd)
        with (home / "out").open("wb") as out:
            node = subprocess.Popen(
                [SERVER], env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        stack.callback(_stop, node)
        _await_listening(node, port, home / "out")
        yield FreshRabbitMQ(port, psutil.Process(node.pid))


def _environment(home: Path, port: int, distribution_port: int, epmd_port: int) -> dict[str, str]:
    configuration = home / "rabbitmq.conf"
    configuration.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = false\n")
    plugins = home / "enabled_plugins"
    plugins.write_text("[].\n")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench-{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_CONFIG_FILE": str(configuration.with_suffix("")),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
    }


def _free_ports(count: int) -> list[int]:
    """All held at the same time, so that they differ; another process may take one first, which stops the run."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [int(held.getsockname()[1]) for held in sockets]


def _await_listening(node: "subprocess.Popen[bytes]", port: int, out: Path) -> None:
    """The listener is the last thing a node starts."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and node.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(_LOOK_SECONDS)
    raise SystemExit(f"RabbitMQ did not start:\n{out.read_text(errors='replace')[-4000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """TERM, which its script passes on to the node, and force for what is still there after that."""
    try:
        below = process_tree.processes_of(psutil.Process(process.pid))
    except psutil.NoSuchProcess:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process_tree.end(below)
