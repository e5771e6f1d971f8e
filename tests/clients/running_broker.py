"""A broker as a user starts it: the command in a process of its own, known by its ready line, its log and its pids."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from ipc.speed import PURE_VARIABLE
from tests.clients.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-m", "runtime.cli.main")
NO_API: Final = {"EBBMQ_MANAGEMENT_PORT": "-1", "EBBMQ_MANAGEMENT_METRICS_PORT": "-1"}
"""Brokers side by side do not want the same ports; those with an API of their own say so by `--set`."""

_READY = re.compile(
    r"^ebbmq ready: amqp (?P<addresses>[^;]+); shards (?P<shards>[^;]+); "
    r"supervisor pid (?P<supervisor>\d+)(; http (?P<http>[^;]+))?; data (?P<data>.+)$",
    re.MULTILINE,
)
_SHARD = re.compile(r"(\d+) \(pid (\d+)\)")


class Ready(NamedTuple):
    """What the ready line says."""

    addresses: tuple[str, ...]
    shards: dict[int, int]
    supervisor: int
    data: str
    http: tuple[str, ...]  # where the management API is found

    @property
    def port(self) -> int:
        return int(self.addresses[0].rpartition(":")[2])


def parse_ready(text: str) -> Ready | None:
    match = _READY.search(text)
    if match is None:
        return None
    return Ready(
        addresses=tuple(match["addresses"].split()),
        shards={int(number): int(pid) for number, pid in _SHARD.findall(match["shards"])},
        supervisor=int(match["supervisor"]),
        data=match["data"].strip(),
        http=tuple((match["http"] or "").split()),
    )


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, and so our speed, without settings of a broker or of a service manager that happen to stand in it."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key == PURE_VARIABLE or (not key.startswith(("EBBMQ_", "MEMORY_PRESSURE_")) and key != "NOTIFY_SOCKET")
    }
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | NO_API | dict(extra or {})


def run_command(
    *arguments: str, extra: Mapping[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """`ebbmq ARGUMENTS` to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(extra),
        cwd=ROOT,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class RunningBroker:
    """One data directory and the process that serves it; the process may be ended and started again.

    The log goes to a file, so that a broker that talks much can never block on us.
    """

    def __init__(
        self,
        home: Path,
        *,
        shards: int = 2,
        arguments: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
        port: int = 0,
        before: Sequence[str] = (),
    ) -> None:
        """`before` is a command that becomes the one behind it, as `nice` does."""
        self.data = home / "data"
        self.shards = shards
        self.arguments = tuple(arguments)
        self.before = tuple(before)
        self.extra = dict(extra or {})
        self.stdout_path = home / "stdout"
        self.stderr_path = home / "stderr"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: Ready | None = None
        self._children: set[int] = set()

    # start and end ----------------------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the process without waiting; after the first start the port stays the same, as clients expect."""
        self._ready = None
        with self.stdout_path.open("wb") as stdout, self.stderr_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                [
                    *self.before,
                    *COMMAND,
                    "serve",
                    "--shards",
                    str(self.shards),
                    "--amqp-port",
                    str(self._port),
                    "--data-dir",
                    str(self.data),
                    *self.arguments,
                ],
                env=environment(self.extra),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def start(self, *, seconds: float = 30.0) -> "RunningBroker":
        self.spawn()
        self._ready = eventually(self._ready_or_ended, "the ready line", seconds=seconds)
        self._port = self._ready.port
        self._note_children()
        return self

    def _ready_or_ended(self) -> Ready | None:
        code = self.process.poll()
        assert code is None, f"the broker ended with {code} before it was ready:\n{self.log}"
        return parse_ready(self.stdout_path.read_text())

    def stop(self, *, seconds: float = 20.0) -> int:
        """TERM, and the exit code; everything it started must be gone with it."""
        self._note_children()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.await_children_gone()
        return code

    def kill(self) -> None:
        """KILL the supervisor; its children must notice by themselves."""
        self._note_children()
        self.process.kill()
        self.process.wait(10)
        self.await_children_gone()

    def await_children_gone(self, *, seconds: float = 20.0) -> None:
        eventually(lambda: not any(map(is_alive, self._children)), "all children gone", seconds=seconds)

    def end_by_force(self) -> None:
        """Leave nothing behind, however the test went."""
        if self._process is None:
            return
        self._note_children()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        for pid in filter(is_alive, self._children):
            os.kill(pid, signal.SIGKILL)

    def _note_children(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._children |= {child.pid for child in psutil.Process(self._process.pid).children(recursive=True)}
        if self._ready is not None:
            self._children |= set(self._ready.shards.values())

    # what can be seen of it -------------------------------------------------------------------------------------------

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "not started"
        return self._process

    @property
    def ready(self) -> Ready:
        assert self._ready is not None, "not ready"
        return self._ready

    @property
    def port(self) -> int:
        return self.ready.port

    @property
    def http_port(self) -> int:
        """Of the management API; it listens with `--set management.port=0`."""
        return int(self.ready.http[0].rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def log(self) -> str:
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def descendants(self) -> set[int]:
        """Every process below the supervisor that runs now, template included."""
        if self.process.poll() is not None:
            return set()
        below = psutil.Process(self.process.pid).children(recursive=True)
        return {child.pid for child in below if is_alive(child.pid)}

    @property
    def template_pid(self) -> int:
        template = self.find_template()
        assert template is not None, "no template process"
        return template

    def find_template(self) -> int | None:
        """The supervisor's child that shards are forked from: the only one that is no shard itself."""
        shards = set(self.ready.shards.values())
        for child in psutil.Process(self.process.pid).children():
            try:
                command = " ".join(child.cmdline())
            except psutil.NoSuchProcess:
                continue  # ended since it was listed
            if child.pid not in shards and "shards.host.template" in command:
                return child.pid
        return None

    def assert_no_traceback(self) -> None:
        assert "Traceback (most recent call last)" not in self.log, self.log[-8000:]

    def await_log(self, text: str, *, after: int = 0, seconds: float = 10.0) -> str:
        """The first log line with `text` beyond `after` characters of log."""
        return eventually(
            lambda: next((line for line in self.log[after:].splitlines() if text in line), None),
            f"{text!r} in the log:\n{self.log[after:][-4000:]}",
            seconds=seconds,
        )

    # what a user does to it -------------------------------------------------------------------------------------------

    def command(self, *arguments: str, given: str = "") -> str:
        """A command about accounts on this data directory, while the broker runs or not."""
        done = run_command(*arguments, "--data-dir", str(self.data), given=given)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def add_vhost(self, name: str, *, shard: int) -> None:
        """A vhost pinned to a shard, on which guest may do everything."""
        self.command("vhost", "add", name, "--shard", str(shard))
        self.permit("guest", name, configure=".*", write=".*", read=".*")

    def permit(self, user: str, vhost: str, *, configure: str, write: str, read: str) -> None:
        self.command("permissions", "set", user, vhost, "--configure", configure, "--write", write, "--read", read)
