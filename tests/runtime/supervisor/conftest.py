"""Brokers whose shards are fakes: what is tested here is the supervisor, in real processes with real signals."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.clients.running_broker import ROOT, RunningBroker

FAKES: Final = Path(__file__).parent / "fakes"

StartFaked = Callable[..., RunningBroker]


def faked(*faults: str) -> dict[str, str]:
    """The environment in which `shards` means the fakes; safe path keeps the current directory out of the way."""
    return {"PYTHONPATH": f"{FAKES}:{ROOT}", "PYTHONSAFEPATH": "1", "EBBMQ_FAKE": ",".join(faults)}


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[StartFaked]:
    """A function that prepares a broker with faults and settings; start it yourself."""
    brokers: list[RunningBroker] = []

    def prepare(*faults: str, home: str = "broker", shards: int = 2, **settings: object) -> RunningBroker:
        pairs = [part for name, value in settings.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]
        directory = tmp_path / home
        directory.mkdir(exist_ok=True)
        broker = RunningBroker(directory, shards=shards, arguments=pairs, extra=faked(*faults))
        brokers.append(broker)
        return broker

    yield prepare
    for broker in brokers:
        broker.end_by_force()
    for broker in brokers:
        broker.assert_no_traceback()
