"""Worker processes of one measurement: forked, started together, watched, ended; none outlives its parent.

A process gets ready (connects), waits at the gate until all are, works until it is done or the board says stop, and
leaves a sentence in its pipe if something went wrong.

```
parent                                     worker
fork ───────────────────────────────────►  prepare: connect, open a channel …
wait for Column.READY of all               ready; read(gate) blocks
close the gate's write end ─────────────►  read(gate) ends: work
look at the board, once a second           count on the board
board.stop() ───────────────────────────►  leave the loop, say goodbye
its pipe ends  ◄────────────────────────── exit, after a sentence if there is one
```
"""

import gc
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from runtime.cli.perf.alarm import Alarm, heard_signals
from runtime.cli.perf.board import Board, Column, Row
from runtime.cli.perf.client import Refused

READY_SECONDS_MAX: Final = 60.0
GOODBYE_SECONDS_MAX: Final = 12.0  # longer than any worker's own deadline
LOOK_SECONDS: Final = 0.005  # while waiting for all to be ready
BUSY_SHARE: Final = 0.9
TELLING_SECONDS_MIN: Final = 0.5  # the kernel counts a process's time in slices of milliseconds
SENTENCE_BYTES_MAX: Final = 4096

_SCHEDSTAT: Final = Path("/proc/self/schedstat")  # ns on a core, ns waiting for one, number of slices
_LOOKS_AT_PARENT: Final = 32


class Post:
    """The place of a process: what its loops ask for and report to, a row for each worker in it."""

    def __init__(self, rows: Sequence[Row], gate: int, parent: int) -> None:
        self.rows = rows
        self._own = rows[0]
        self._gate = gate
        self._parent = parent
        self._looks = 0
        self._started = (0, 0, 0)

    def await_start(self) -> None:
        """Everything is prepared; come back when all others are, too."""
        self._own.words[Column.READY] = 1
        os.read(self._gate, 1)
        self._started = _clocks()

    def is_over(self) -> bool:
        """Whether to come to an end: told to, or left alone."""
        self._looks += 1
        if self._looks % _LOOKS_AT_PARENT == 0 and os.getppid() != self._parent:
            return True
        return self._own.is_stopped()

    def note_end(self) -> None:
        """The work is done; what follows is goodbye. Only the first call counts."""
        words = self._own.words
        if words[Column.ENDED_NS]:
            return
        now, running, waiting = _clocks()
        words[Column.ENDED_NS] = now
        words[Column.ELAPSED_NS] = now - self._started[0]
        words[Column.RUNNING_NS] = running - self._started[1]
        words[Column.WAITING_NS] = waiting - self._started[2]


Work = Callable[[Post], None]


class Member(Struct, frozen=True):
    """A process to be: what it is called, what it does, and which rows of the board are its workers'."""

    name: str
    work: Work
    rows: range


class Share(Struct, frozen=True):
    """What a process did with the time of the whole measurement: parts of 1, and seconds on a core."""

    name: str
    running: float
    waiting: float
    cpu_seconds: float


class Verdict(Struct, frozen=True):
    """Whether a measurement tells more about this tool, or this machine, than about the broker."""

    tool_was_limit: bool = False
    cores_were_limit: bool = False
    note: str | None = None


class Crew:
    """All processes of one measurement; times run from their start to their end."""

    def __init__(self, board: Board, members: Sequence[Member]) -> None:
        self.board = board
        self.failures: list[str] = []
        self._members = members
        self._pids: dict[int, int] = {}  # by the read end of its pipe
        self._gate = -1
        self._alarm: Alarm | None = None
        self._started_ns = 0
        self._stopped_ns = 0
        self.was_interrupted = False

    @property
    def is_running(self) -> bool:
        return bool(self._pids)

    @property
    def elapsed_seconds(self) -> float:
        return self.seconds_of(self._members)

    def seconds_of(self, members: Sequence[Member]) -> float:
        """From the start until the last of these had done its work, or all were asked to stop."""
        if not self._started_ns or not members:
            return 0.0
        ends = [self.board.value(member.rows[0], Column.ENDED_NS) for member in members]
        stopped_ns = self._stopped_ns or time.monotonic_ns()
        ended_ns = max(ends) if all(ends) else stopped_ns
        return (min(ended_ns, stopped_ns) - self._started_ns) / 1e9

    def shares(self) -> list[Share]:
        """In the members' order; those that did not come to their end did nothing."""
        return [self._share(member) for member in self._members]

    def _share(self, member: Member) -> Share:
        def word(column: Column) -> int:
            return self.board.value(member.rows[0], column)

        # The part of 1 is of the whole measurement: who worked hard for a moment was not what held up the rest.
        elapsed = max(word(Column.ELAPSED_NS), self.elapsed_seconds * 1e9, 1)
        running = word(Column.RUNNING_NS)
        return Share(member.name, running / elapsed, word(Column.WAITING_NS) / elapsed, running / 1e9)

    def verdict(self) -> Verdict:
        """Of the whole measurement; none after too short a time to tell."""
        if self.elapsed_seconds < TELLING_SECONDS_MIN:
            return Verdict()
        return judge(self.shares())

    # start ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Started when the block begins, ended when it ends. Raises Refused when one of them cannot begin."""
        with heard_signals() as self._alarm:
            try:
                self._fork()
                self._await_ready()
                self._started_ns = time.monotonic_ns()
                os.close(self._gate)
                self._gate = -1
                yield
            finally:
                self._end()

    def _fork(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()
        gate_read, self._gate = os.pipe()
        for member in self._members:
            tell, told = os.pipe()
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os.close(self._gate)
                for pipe in self._pids:
                    os.close(pipe)
                _be(member.work, Post([self.board.row(row) for row in member.rows], gate_read, parent), told)
            os.close(told)
            self._pids[tell] = pid
        os.close(gate_read)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self.board.total(Column.READY) < len(self._members):
            self.wait(LOOK_SECONDS)
            if self.failures:
                raise Refused(self.failures[0])
            if self._stopped_ns:
                raise click.Abort
            if time.monotonic() > deadline:
                raise Refused(f"not all clients were connected within {READY_SECONDS_MAX:.0f} s")

    # watch ------------------------------------------------------------------------------------------------------------

    def seconds(self, seconds: float) -> Iterator[None]:
        """Every second until `seconds` are over (0: no limit), all workers ended, one failed or somebody had enough."""
        now = tick = time.monotonic()
        end = now + seconds if seconds else math.inf
        while self._pids and not self.is_stopped and not self.failures:
            if now >= tick + 1:
                tick += 1
                yield
            elif now >= end:
                self.stop()
            else:
                self.wait(min(tick + 1, end) - now)
            now = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Until this time has passed, all workers have ended or somebody asked for the end; at once if one failed."""
        deadline = time.monotonic() + max(seconds, 0.0)
        while self._pids:
            ended, is_asked = self._look(deadline)
            for pipe in ended:
                self._bury(pipe)
            if is_asked:
                self.was_interrupted = True
                self.stop()
            if is_asked or not ended or self.failures:
                return

    def _look(self, deadline: float) -> tuple[list[int], bool]:
        """Which processes have ended, and whether somebody asked for the end; waits for either until the deadline."""
        assert self._alarm is not None
        watched: list[int | Alarm] = [*self._pids, self._alarm]
        ready, _, _ = select.select(watched, [], [], max(deadline - time.monotonic(), 0.0))
        is_asked = self._alarm in ready
        if is_asked:
            self._alarm.hush()
        return [pipe for pipe in ready if isinstance(pipe, int)], is_asked

    @property
    def is_stopped(self) -> bool:
        return self._stopped_ns != 0

    def stop(self) -> None:
        """Ask all of them to come to an end; time stops counting now."""
        self._stopped_ns = self._stopped_ns or time.monotonic_ns()
        self.board.stop()

    def _bury(self, pipe: int) -> None:
        sentence = os.read(pipe, SENTENCE_BYTES_MAX).decode(errors="replace")
        os.close(pipe)
        pid = self._pids.pop(pipe)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if sentence or code:
            self.failures.append(sentence or f"a worker process ended with {code}")

    # end --------------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if self._pids or self.failures:
            self.stop()
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
        deadline = time.monotonic() + GOODBYE_SECONDS_MAX
        while self._pids:
            ended, is_asked = self._look(deadline)
            if is_asked or not ended:
                self._give_up()
                if not is_asked:
                    self.failures.append(f"the broker did not let go of all clients within {GOODBYE_SECONDS_MAX:.0f} s")
                return
            for pipe in ended:
                self._bury(pipe)

    def _give_up(self) -> None:
        """Out of patience, or somebody asked a second time."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pipe, pid in self._pids.items():
            os.waitpid(pid, 0)
            os.close(pipe)
        self._pids.clear()


def judge(shares: Sequence[Share]) -> Verdict:
    """Who was busy all the time, or would have been with a core of its own, was in the way."""
    busiest = max(shares, key=lambda share: share.running)
    if busiest.running > BUSY_SHARE:
        return Verdict(
            tool_was_limit=True,
            note=f"the load tool was the limit: {busiest.name} was busy {busiest.running:.0%} of the time; "
            "more of its kind, or more processes for them, would get more out of the broker",
        )
    starved = max(shares, key=lambda share: share.running + share.waiting)
    if starved.running + starved.waiting > BUSY_SHARE:
        return Verdict(
            cores_were_limit=True,
            note=f"this machine's cores were the limit: {starved.name} ran {starved.running:.0%} of the time "
            f"and waited {starved.waiting:.0%} of it for a core",
        )
    return Verdict()


def _be(work: Work, post: Post, told: int) -> None:
    """The whole life of a worker process."""
    code = 1
    try:
        # Ctrl-C reaches the whole foreground group, and a service manager's TERM all processes; the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        gc.disable()
        work(post)
        post.note_end()
        code = 0
    except Refused as refusal:
        post.note_end()
        os.write(told, refusal.message.encode()[:SENTENCE_BYTES_MAX])
    except BaseException as fault:  # noqa: BLE001  # nothing of the parent's stack may run in the child
        os.write(told, f"{type(fault).__name__}: {fault}".encode()[:SENTENCE_BYTES_MAX])
    finally:
        os._exit(code)


def _clocks() -> tuple[int, int, int]:
    """Nanoseconds: monotonic, of this process on a core, of this process waiting for one."""
    try:
        waiting = int(_SCHEDSTAT.read_text().split()[1])
    except (OSError, IndexError):
        waiting = 0
    return time.monotonic_ns(), time.process_time_ns(), waiting
