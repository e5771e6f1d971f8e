"""A broker of its own for one measurement: temporary data, a free port, gone afterwards."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil

from bench import process_tree
from bench.wire import await_vhost
from ipc.messages.rules import Policy

ROOT: Final = Path(__file__).parents[1]
DATA_PREFIX: Final = "ebbmq-bench-"
VHOST_SECONDS_MAX: Final = 10.0  # between adding one and being let in
COMMAND: Final = (sys.executable, "-m", "runtime.cli.main")

_LOG: Final = "log"
# Brokers side by side do not want the same ports; those with an API of their own say so by `--set`.
_NO_API: Final = {"EBBMQ_MANAGEMENT_PORT": "-1", "EBBMQ_MANAGEMENT_METRICS_PORT": "-1"}
_READY = re.compile(
    r"ebbmq ready: amqp [^;]*?127\.0\.0\.1:(\d+)[^;]*; shards ([^;]*); supervisor pid (\d+)"
    r"(?:; http [^;]*?127\.0\.0\.1:(\d+))?"
)
_PID = re.compile(r"pid (\d+)")


class FreshBroker(NamedTuple):
    """Where it listens and which processes it is made of."""

    port: int
    data: Path
    supervisor: psutil.Process
    shards: tuple[psutil.Process, ...]
    template: tuple[psutil.Process, ...]  # one, or none where shards are started otherwise
    http_port: int | None = None  # of the management API, where it has a port

    @property
    def processes(self) -> tuple[psutil.Process, ...]:
        return (self.supervisor, *self.template, *self.shards)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return process_tree.cpu_seconds(self.supervisor)

    @property
    def log(self) -> str:
        """All it has logged so far."""
        return (self.data.parent / _LOG).read_text()

    def add_vhost(self, name: str, *, shard: int) -> None:
        """A vhost on this shard, on which guest may do everything."""
        self._command("vhost", "add", name, "--shard", str(shard))
        everything = ("--configure", ".*", "--write", ".*", "--read", ".*")
        self._command("permissions", "set", "guest", name, *everything)
        await_vhost(self.port, name, seconds_max=VHOST_SECONDS_MAX)

    def add_policy(self, policy: Policy) -> None:
        """For the vhost `/`."""
        definition = msgspec.json.encode(policy.definition).decode()
        options = ("--priority", str(policy.priority), "--apply-to", policy.apply_to)
        self._command("policy", "set", policy.name, policy.pattern, definition, *options)

    def _command(self, *arguments: str) -> None:
        subprocess.run(
            [*COMMAND, *arguments, "--data-dir", str(self.data)], cwd=ROOT, env=environment(), check=True, timeout=60
        )


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without settings of a broker that happen to stand in it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EBBMQ_") and key != "NOTIFY_SOCKET"}
    return kept | _NO_API | dict(extra or {})


@contextmanager
def fresh_broker(
    *,
    shards: int = 1,
    data_on: str | None = None,
    arguments: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    within: Callable[[Sequence[str]], Sequence[str]] = list,
) -> Iterator[FreshBroker]:
    """Start `ebbmq serve` and end it with TERM; `data_on`: directory below which its data goes; `extra`: variables.

    `within` gives the command to run for a command: one that becomes it after it has gone where the broker is to be.
    """
    with (
        tempfile.TemporaryDirectory(prefix=DATA_PREFIX, dir=data_on) as home,
        started_broker(Path(home), shards=shards, arguments=arguments, extra=extra, within=within) as broker,
    ):
        yield broker


@contextmanager
def started_broker(
    home: Path,
    *,
    shards: int = 1,
    arguments: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    within: Callable[[Sequence[str]], Sequence[str]] = list,
) -> Iterator[FreshBroker]:
    """The same with data that stays, below `home`: there may be some already."""
    log = home / _LOG
    data = home / "data"
    command = [*COMMAND, "serve", "--shards", str(shards), "--amqp-port", "0"]
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            within([*command, "--data-dir", str(data), "--bind", "127.0.0.1", *arguments]),
            cwd=ROOT,
            env=environment(extra),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    ready = _READY.search(line)
    if ready is None:
        process.kill()
        process.wait()
        raise SystemExit(f"the broker did not start: {line}{log.read_text()}")
    broker = _identify(process.pid, data, ready)
    try:
        yield broker
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process_tree.end(broker.processes)


def _identify(pid: int, data: Path, ready: "re.Match[str]") -> FreshBroker:
    supervisor = psutil.Process(pid)
    shards = tuple(psutil.Process(int(shard)) for shard in _PID.findall(ready[2]))
    rest = tuple(child for child in supervisor.children() if child not in shards)
    http_port = int(ready[4]) if ready[4] else None
    return FreshBroker(int(ready[1]), data, supervisor, shards, rest, http_port)
