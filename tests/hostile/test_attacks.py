"""Attacks on a real broker: memory stays bounded, nothing breaks, and a client beside them is served all the while."""

from collections.abc import Iterator

import pytest

from tests.clients.one_speed import at_one_speed
from tests.clients.raw_client import RawClient
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.hostile.attacks import ATTACKS, read_scale
from tests.hostile.bystander import Bystander
from tests.hostile.crowd import Crowd
from tests.hostile.memory import MemoryWatch

pytestmark = [pytest.mark.process, at_one_speed]

TRIP_SECONDS_MAX = 5.0  # generous: attacker, broker and other tests share few cores
SCALE = read_scale()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A broker with one shard, in which attackers and bystander meet."""
    settings = ("amqp.negotiation_seconds=2", f"amqp.half_open_max={SCALE.of(1024)}", "main.log_level=warning")
    broker = RunningBroker(
        tmp_path_factory.mktemp("target"), shards=1, arguments=[word for one in settings for word in ("--set", one)]
    )
    try:
        yield broker.start()
        assert broker.stop() == 0
    finally:
        broker.end_by_force()


@pytest.fixture(scope="module")
def bystander(target: RunningBroker) -> Iterator[Bystander]:
    with Bystander(target) as bystander:
        yield bystander


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_borne_and_nobody_else_suffers(target: RunningBroker, bystander: Bystander, name: str) -> None:
    attack = ATTACKS[name]
    shards, log_bytes = dict(target.ready.shards), len(target.log)

    with MemoryWatch(target) as memory, Crowd(target.port) as crowd:
        bystander.served()
        attack.conduct(crowd, SCALE)
        served = bystander.served()

    print(f"{name}: {served}, {memory.grown_bytes / 1e6:.1f} MB more")
    assert served.longest_seconds < TRIP_SECONDS_MAX
    assert memory.grown_bytes < attack.grown_bytes_max
    assert target.ready.shards == shards
    assert "Traceback" not in target.log[log_bytes:], target.log[log_bytes:][-4000:]
    eventually(lambda: _lets_in(target), "a new client let in")


def _lets_in(broker: RunningBroker) -> bool:
    try:
        with RawClient(broker.port) as client:
            client.open().open_channel()
    except Exception:  # noqa: BLE001 - too many still negotiate
        return False
    return True
