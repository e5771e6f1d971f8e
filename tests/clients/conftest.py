"""Brokers for these tests: one that all gentle tests share, and fresh ones for those who kill."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.raw_client import RawClient
from tests.clients.running_broker import RunningBroker

StartBroker = Callable[..., RunningBroker]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Two shards, vhost `/` wherever it falls; ends in order, which is a test of its own."""
    broker = RunningBroker(tmp_path_factory.mktemp("broker"))
    try:
        yield broker.start()
        assert broker.stop() == 0, broker.log
    finally:
        broker.end_by_force()


@pytest.fixture
def broker(shared_broker: RunningBroker) -> Iterator[RunningBroker]:
    """The shared broker; whatever the test does to it, it goes on and logs no traceback."""
    before = len(shared_broker.log)
    yield shared_broker
    assert shared_broker.process.poll() is None, shared_broker.log
    assert "Traceback" not in shared_broker.log[before:], shared_broker.log[before:][-8000:]


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """A function that prepares a broker in a directory of this test; start it yourself."""
    brokers: list[RunningBroker] = []

    def prepare(**options: object) -> RunningBroker:
        home = tmp_path / f"broker-{len(brokers)}"
        home.mkdir()
        broker = RunningBroker(home, **options)  # type: ignore[arg-type]
        brokers.append(broker)
        return broker

    yield prepare
    for broker in brokers:
        broker.end_by_force()
    for broker in brokers:
        broker.assert_no_traceback()


@pytest.fixture
def name() -> str:
    """A name nobody else uses, so that tests sharing a broker do not meet."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def raw(broker: RunningBroker) -> Iterator[Callable[[], RawClient]]:
    """Connects raw clients to the shared broker and closes them afterwards."""
    clients: list[RawClient] = []

    def connect() -> RawClient:
        client = RawClient(broker.port)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()
