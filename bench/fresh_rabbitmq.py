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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

import psutil

from bench import process_tree

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CTL: Final = SERVER.with_name("rabbitmqctl")
VERSIONS: Final = Path("/usr/lib/rabbitmq/lib")
EPMD: Final = "epmd"
LOOPBACK: Final = "127.0.0.1"

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


class RabbitMQNode:
    """A node with its port mapper, and `home` for all it writes; it may be ended and started again.

    `http_port` is that of its management API, if there is to be one.
    """

    def __init__(
        self, home: Path, *, addresses: Sequence[str] = (LOOPBACK,), port: int = 0, is_managed: bool = False
    ) -> None:
        free_port, distribution_port, self._epmd_port, free_http_port = _free_ports(4)
        self.port = port or free_port
        self.http_port = free_http_port if is_managed else None
        self._home = home
        self._addresses = addresses
        self._environment = _environment(home, addresses, self.port, distribution_port, self._epmd_port)
        if self.http_port is not None:
            _enable_management(home, self.http_port)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> psutil.Process:
        """The process above all others of the node, which is listening."""
        # Ours, so that the node starts none in the background, which nobody would end.
        command = [EPMD, "-port", str(self._epmd_port), "-address", LOOPBACK]
        self._spawn(command, subprocess.DEVNULL)
        with self._out.open("ab") as out:
            node = self._spawn([str(SERVER)], out)
        _await_listening(node, self._addresses[0], self.port, self._out)
        return psutil.Process(node.pid)

    def stop(self) -> None:
        """In order, the node before its port mapper."""
        while self._processes:
            _stop(self._processes.pop())

    def kill(self) -> None:
        while self._processes:
            _kill(self._processes.pop())

    end_by_force = kill

    def ctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`rabbitmqctl ARGUMENTS`, asking this node."""
        return subprocess.run(
            [CTL, *arguments],
            env=self._environment,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def log(self) -> str:
        return self._out.read_text(errors="replace") if self._out.exists() else ""

    @property
    def _out(self) -> Path:
        return self._home / "out"

    def _spawn(self, command: Sequence[str], out: IO[bytes] | int) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command,
            env=self._environment,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        return process


@contextmanager
def fresh_rabbitmq(*, data_on: str | None = None) -> Iterator[FreshRabbitMQ]:
    """Start a node and its port mapper, and end both."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-bench-", dir=data_on) as home:
        node = RabbitMQNode(Path(home))
        try:
            root = node.start()
            yield FreshRabbitMQ(node.port, root)
        finally:
            node.stop()


def _environment(
    home: Path, addresses: Sequence[str], port: int, distribution_port: int, epmd_port: int
) -> dict[str, str]:
    configuration = home / "rabbitmq.conf"
    listeners = "".join(f"listeners.tcp.{n} = {address}:{port}\n" for n, address in enumerate(addresses, start=1))
    configuration.write_text(f"{listeners}log.console = false\n")
    plugins = home / "enabled_plugins"
    plugins.write_text("[].\n")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
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


def _enable_management(home: Path, port: int) -> None:
    with (home / "rabbitmq.conf").open("a") as configuration:
        configuration.write(f"management.tcp.ip = {LOOPBACK}\nmanagement.tcp.port = {port}\n")
    (home / "enabled_plugins").write_text("[rabbitmq_management].\n")


def _free_ports(count: int) -> list[int]:
    """All held at the same time, so that they differ; another process may take one first, which stops the run."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind((LOOPBACK, 0))
        return [int(held.getsockname()[1]) for held in sockets]


def _await_listening(node: "subprocess.Popen[bytes]", address: str, port: int, out: Path) -> None:
    """The listener is the last thing a node starts."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and node.poll() is None:
        try:
            socket.create_connection((address, port), timeout=1).close()
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


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """At once, with all below it."""
    try:
        below = process_tree.processes_of(psutil.Process(process.pid))
    except psutil.NoSuchProcess:
        return
    for each in below:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    process_tree.end(below)
