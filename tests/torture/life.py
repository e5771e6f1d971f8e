"""One data directory through many deaths: load, a death at a random moment, an audit of everything, and again."""

import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final

from pamqp import commands

from tests.clients.raw_client import ClosedByBroker
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.torture.actors import Actor, Builder, Committer, Publisher, Taker
from tests.torture.audit import Auditor
from tests.torture.deaths import DEATHS
from tests.torture.ledger import Ledger
from tests.torture.line import Heard, Line, method_frame

VHOSTS: Final = ("zero", "one")
_LOAD_SECONDS: Final = (0.02, 0.4)
_AFTERMATH_SECONDS: Final = 20.0
_PARTING_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.02  # between two looks at a broker that serves nobody


class BrokenPromise(AssertionError):
    """The broker lost something, invented something, or does not come back."""


class Life:
    """A broker with two vhosts on two shards, and the ledger of each; everything random comes from `seed`.

    What the kernel and the broker's processes make of it cannot be repeated, but what clients do and how the broker
    dies can.
    """

    def __init__(self, home: Path, seed: int, *, settings: Mapping[str, object] | None = None) -> None:
        self.seed = seed
        self._publishers = 0
        random = Random(seed)
        self.broker = RunningBroker(home, arguments=_arguments(random, settings or {}))
        self._ledgers = {vhost: Ledger() for vhost in VHOSTS}

    def begin(self) -> None:
        for shard, vhost in enumerate(VHOSTS):
            self.broker.add_vhost(vhost, shard=shard)
        self.broker.start()
        for vhost in VHOSTS:
            with Auditor(self.broker, vhost) as auditor:
                auditor.declare_all()

    def round(self, number: int) -> str:
        """Load, death, audit; what happened, in one line. Raises BrokenPromise."""
        random = Random(f"{self.seed}:{number}")
        name = death_of(self.seed, number)
        began = time.monotonic()
        before = {vhost: ledger.tally.copy() for vhost, ledger in self._ledgers.items()}
        with ExitStack() as lines:
            loads = {vhost: Load(self, vhost, lines, random) for vhost in VHOSTS}
            self._live_and_die(loads, name, random)
            for load in loads.values():
                load.part()
        self.audit_all(random)
        tally = sum((self._ledgers[vhost].tally - before[vhost] for vhost in VHOSTS), start=type(before["one"])())
        text = " ".join(f"{what}={count}" for what, count in sorted(tally.items()))
        return f"seed {self.seed} round {number}: {name}; {text}; {time.monotonic() - began:.1f} s"

    def end(self) -> None:
        assert self.broker.stop() == 0, self.broker.log[-4000:]
        self.broker.assert_no_traceback()

    def audit_all(self, random: Random) -> None:
        """Raises BrokenPromise."""
        for vhost in VHOSTS:
            self._audit(vhost, random)

    def tally(self, what: str) -> int:
        """How much of it there was so far, in all vhosts."""
        return sum(ledger.tally[what] for ledger in self._ledgers.values())

    def ledger(self, vhost: str) -> Ledger:
        return self._ledgers[vhost]

    def next_publisher(self) -> int:
        self._publishers += 1
        return self._publishers

    def _live_and_die(self, loads: "Mapping[str, Load]", name: str, random: Random) -> None:
        fault: list[BaseException] = []
        death = threading.Thread(target=self._die, args=(name, random.uniform(*_LOAD_SECONDS), random.random(), fault))
        death.start()
        while death.is_alive():
            for load in loads.values():
                load.play(random)
            if all(load.is_cut_off for load in loads.values()):
                death.join(_LOOK_SECONDS)
        death.join()
        if fault:
            raise BrokenPromise(f"{name}: {fault[0]}") from fault[0]
        # A killed process takes its sockets along at once, but only reading shows it.
        deadline = time.monotonic() + _AFTERMATH_SECONDS
        while any(load.is_half_cut_off for load in loads.values()):
            if time.monotonic() > deadline:
                raise BrokenPromise("some clients of a vhost were cut off, others were not")
            for load in loads.values():
                load.play(random)

    def _die(self, name: str, after_seconds: float, seed: float, fault: list[BaseException]) -> None:
        random = Random(seed)
        try:
            if random.random() < 0.3:
                time.sleep(after_seconds / 2)
                self.broker.process.send_signal(signal.SIGUSR1)
                after_seconds /= 2
            time.sleep(after_seconds)
            DEATHS[name](self.broker, random)
        except BaseException as failed:  # noqa: BLE001 - told to the thread that waits
            fault.append(failed)

    def _audit(self, vhost: str, random: Random) -> None:
        ledger = self._ledgers[vhost]
        with self._auditor(vhost) as auditor:
            found, drained = auditor.everything(random)
            ledger.audit(found)
            ledger.drained(drained)
            for name in list(ledger.queues):
                ledger.queue_found(name, exists=auditor.exists(name))
        ledger.faults += auditor.faults
        if ledger.faults:
            raise BrokenPromise(f"vhost {vhost}:\n  " + "\n  ".join(ledger.faults))

    def _auditor(self, vhost: str) -> Auditor:
        return eventually(lambda: self._find_auditor(vhost), f"a connection to {vhost!r}", seconds=30)

    def _find_auditor(self, vhost: str) -> Auditor | None:
        try:
            return Auditor(self.broker, vhost)
        except (ClosedByBroker, OSError, AssertionError):
            return None  # nobody is there, or one who says 541: the vhost cannot be opened yet


def death_of(seed: int, number: int) -> str:
    """How this round ends: each seed deals deaths in one order, so as many rounds in a row as there are have all."""
    order = Random(f"{seed}:deaths").sample(list(DEATHS), len(DEATHS))
    return order[number % len(order)]


class Load:
    """The clients of one vhost, on a few connections with a few channels each; now and then one hangs up."""

    def __init__(self, life: Life, vhost: str, lines: ExitStack, random: Random, *, hangs_up: bool = True) -> None:
        self._life, self._vhost, self._stack = life, vhost, lines
        self._hangs_up = hangs_up
        self._ledger = life.ledger(vhost)
        self._lines: dict[int, tuple[Line, dict[int, Actor]]] = {}
        for _ in range(random.randint(3, 6)):
            self._connect(random)

    def _connect(self, random: Random) -> None:
        line = self._stack.enter_context(Line(self._life.broker.port, self._vhost))
        actors: dict[int, Actor] = {}
        for channel in range(1, random.randint(2, 4)):
            line.open_channel(channel)
            actors[channel] = self._actor(line, channel, random)
        self._lines[line.fileno()] = (line, actors)

    def _actor(self, line: Line, channel: int, random: Random) -> Actor:
        role = random.random()
        if role < 0.4:
            return Taker(line, channel, self._ledger, random)
        if role < 0.5:
            return Builder(line, channel, self._ledger, self._life.next_publisher())
        kind = Publisher if role < 0.85 else Committer
        return kind(line, channel, self._ledger, self._life.next_publisher())

    @property
    def is_cut_off(self) -> bool:
        return all(line.is_cut_off for line, _ in self._lines.values())

    @property
    def has_lost_anybody(self) -> bool:
        return any(line.is_cut_off for line, _ in self._lines.values())

    @property
    def is_half_cut_off(self) -> bool:
        return len({line.is_cut_off for line, _ in self._lines.values()}) > 1

    @property
    def blocked(self) -> set[bool]:
        """Whether those who publish were told to wait: of each connection that has such."""
        return {
            line.is_blocked
            for line, actors in self._lines.values()
            if any(isinstance(actor, Publisher | Committer) for actor in actors.values())
        }

    def play(self, random: Random) -> None:
        """One deed of somebody, and whatever has come meanwhile."""
        line, actors = random.choice(list(self._lines.values()))
        if not line.is_cut_off:
            random.choice(list(actors.values())).act(random)
            if random.random() < 0.002 and len(self._lines) > 2 and self._hangs_up:
                self._hang_up(line)
        for line, actors in self._lines.values():
            self._exchange(line, actors)

    def _hang_up(self, line: Line) -> None:
        """Without a goodbye: what was said last may not be heard."""
        del self._lines[line.fileno()]
        self._ledger.let_go(line)
        line.reset()

    def _exchange(self, line: Line, actors: Mapping[int, Actor]) -> None:
        if line.is_cut_off:
            return
        for heard in line.exchange():
            self._pass_on(heard, actors)

    def _pass_on(self, heard: Heard, actors: Mapping[int, Actor]) -> None:
        if heard.method == commands.Channel.Close.index:
            close = commands.Channel.Close()
            close.unmarshal(heard.payload[4:])
            self._ledger.faults.append(f"a channel was closed: {close.reply_code} {close.reply_text}")
        elif heard.channel in actors:
            actors[heard.channel].hear(heard)

    def part(self) -> None:
        """Say goodbye to a broker that lives, and let go of everything."""
        goodbye = method_frame(0, commands.Connection.Close(200, "bye", 0, 0))
        waiting = {line: actors for line, actors in self._lines.values() if not line.is_cut_off}
        for line in waiting:
            line.say(goodbye)
            line.is_leaving = True
            self._ledger.let_go(line)
        deadline = time.monotonic() + _PARTING_SECONDS
        while waiting:
            for line, actors in list(waiting.items()):
                for heard in line.exchange():
                    self._pass_on(heard, actors)
                    if heard.method == commands.Connection.CloseOk.index:
                        for actor in actors.values():
                            actor.part()
                if line.is_cut_off:
                    del waiting[line]
            if time.monotonic() > deadline:
                raise BrokenPromise(f"vhost {self._vhost}: {len(waiting)} clients were not let go")
        for line, _actors in self._lines.values():
            self._ledger.let_go(line)


def _arguments(random: Random, fixed: Mapping[str, object]) -> list[str]:
    """Small files and few descriptors bring about in a minute what otherwise takes a day."""
    settings: dict[str, object] = {
        "main.shard_restart_seconds_min": 0.01,
        "main.shard_restart_seconds_max": 0.1,
        "main.shard_restarts_per_minute_max": 100_000,
        "main.drain_seconds": 3,
        "store.segment_bytes_max": random.choice((64 * 1024, 256 * 1024, 8 * 1024 * 1024)),
        "store.descriptors_open_max": random.choice((16, 2048)),
        "store.durability": random.choice(("fsync", "fsync", "os")),
        **fixed,
    }
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
