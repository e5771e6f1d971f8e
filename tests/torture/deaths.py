"""The ways in which a broker's processes end, one function each: the table below is all that is done to them."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import httpx
import psutil

from tests.clients.running_broker import RunningBroker

Death = Callable[[RunningBroker, Random], None]


def shard_pids(broker: RunningBroker) -> list[int]:
    """The shards that run now, whoever their parent is: they hold the data directory's lock, as the template does."""
    spared = {broker.process.pid, broker.find_template()}
    return sorted(pid for pid in _holders(broker) if pid not in spared)


def _holders(broker: RunningBroker) -> list[int]:
    lock = str(broker.data / "lock")
    found = []
    for process in psutil.process_iter():
        try:
            names = os.listdir(f"/proc/{process.pid}/fd")
            if any(_target(f"/proc/{process.pid}/fd/{name}") == lock for name in names):
                found.append(process.pid)
        except OSError:
            continue  # it ended meanwhile, or is none of ours
    return found


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def kill(*pids: int | None) -> None:
    for pid in pids:
        try:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the death before this one was quicker


def one_shard(broker: RunningBroker, random: Random) -> None:
    pids = shard_pids(broker)
    if pids:
        kill(random.choice(pids))


def all_shards(broker: RunningBroker, random: Random) -> None:
    kill(*shard_pids(broker))


def shard_and_template(broker: RunningBroker, random: Random) -> None:
    pids = [broker.find_template(), *shard_pids(broker)[:1]]
    random.shuffle(pids)
    kill(*pids)


def while_it_recovers(broker: RunningBroker, random: Random) -> None:
    """Killed, and killed again at some moment of coming back."""
    for _ in range(random.randint(2, 4)):
        kill(*shard_pids(broker))
        time.sleep(random.uniform(0.0, 0.15))


def stopped_first(broker: RunningBroker, random: Random) -> None:
    """Stopped somewhere in the middle; killed when its clients have talked to it for a while."""
    pids = shard_pids(broker)[:1]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(random.uniform(0.0, 0.1))
    kill(*pids)


def supervisor(broker: RunningBroker, random: Random) -> None:
    """Its children notice, and end in order."""
    broker.kill()
    broker.start()


def everything(broker: RunningBroker, random: Random) -> None:
    pids = [broker.process.pid, broker.find_template(), *shard_pids(broker)]
    random.shuffle(pids)
    kill(*pids)
    broker.process.wait(10)
    broker.start()


def management(broker: RunningBroker, random: Random) -> None:
    """While it answers; clients of the broker must not notice."""
    transport = httpx.HTTPTransport(uds=str(broker.data / "http.sock"))
    with httpx.Client(base_url="http://localhost", transport=transport, timeout=30) as api:
        assert api.get("/api/overview").status_code == httpx.codes.OK
        children = psutil.Process(broker.process.pid).children()
        kill(*(child.pid for child in children if "runtime.management" in child.cmdline()))
        time.sleep(random.uniform(0.0, 0.1))


def in_order(broker: RunningBroker, random: Random) -> None:
    code = broker.stop()
    assert code == 0, f"a broker that was told to end did so with {code}"
    broker.start()


DEATHS: Final[Mapping[str, Death]] = {
    "one shard": one_shard,
    "all shards": all_shards,
    "shard and template": shard_and_template,
    "while it recovers": while_it_recovers,
    "stopped first": stopped_first,
    "supervisor": supervisor,
    "everything": everything,
    "in order": in_order,
    "management": management,
}
