"""A broker that all scenarios of the load tool share."""

from collections.abc import Iterator

import pytest

from tests.clients.running_broker import RunningBroker


@pytest.fixture(scope="session")
def loaded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One shard; however hard it was worked, it ends in order."""
    broker = RunningBroker(tmp_path_factory.mktemp("loaded"), shards=1)
    try:
        yield broker.start()
        assert broker.stop() == 0, broker.log
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()
