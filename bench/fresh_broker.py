"""A broker of its own for one measurement: temporary data, a free port, gone afterwards."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil

ROOT: Final = Path(__file__).parents[1]

_READY = re.compile(r"ebbmq ready: amqp [^;]*?127\.0\.0\.1:(\d+)[^;]*; shards ([^;]*); supervisor pid (\d+)")
_PID = re.compile(r"pid (\d+)")


class FreshBroker(NamedTuple):
    """Where it listens and which processes it is made of."""

    port: int
    supervisor: psutil.Process
    shards: tuple[psutil.Process, ...]
    template: tuple[psutil.Process, ...]  # one, or none where shards are started otherwise

    @property
    def processes(self) -> tuple[psutil.Process, ...]:
        return (self.supervisor, *self.template, *self.shards)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        times = [process.cpu_times() for process in self.processes]
        return sum(time.user + time.system for time in times)


@contextmanager
def fresh_broker(
    *, shards: int = 1, data_on: str | None = None, arguments: Sequence[str] = ()
) -> Iterator[FreshBroker]:
    """Start `ebbmq serve` and end it with TERM; `data_on`: the directory below which its data goes."""
    with tempfile.TemporaryDirectory(prefix="ebbmq-bench-", dir=data_on) as home:
        log = Path(home) / "log"
        command = [sys.executable, "-m", "runtime.cli.main", "serve", "--shards", str(shards), "--amqp-port", "0"]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "--data-dir", f"{home}/data", "--bind", "127.0.0.1", *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = _READY.search(line)
        if ready is None:
            process.kill()
            raise SystemExit(f"the broker did not start: {line}{log.read_text()}")
        try:
            yield _identify(process.pid, ready)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _identify(pid: int, ready: "re.Match[str]") -> FreshBroker:
    supervisor = psutil.Process(pid)
    shards = tuple(psutil.Process(int(shard)) for shard in _PID.findall(ready[2]))
    rest = tuple(child for child in supervisor.children() if child not in shards)
    return FreshBroker(int(ready[1]), supervisor, shards, rest)
