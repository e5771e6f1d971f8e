"""One broker with its API for all tests of a module that ask it, and users who may do more or less."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api
from tests.management.ebbmqctl import Run, ctl

PASSWORD = "secret"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and "managed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.process)


@contextmanager
def served(directory: Path, *arguments: str) -> Iterator[RunningBroker]:
    """A broker with its API on a free port, which ends in order and leaves no traceback in its log."""
    broker = RunningBroker(directory, arguments=("--set", "management.port=0", *arguments))
    try:
        yield broker.start()
        assert broker.stop() == 0, broker.log
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Two shards and the API; the module leaves no traceback in its log."""
    with served(tmp_path_factory.mktemp("managed"), "--set", "management.metrics_port=-1") as broker:
        yield broker


@pytest.fixture
def api(managed: RunningBroker) -> Api:
    return Api(managed.http_port)


@pytest.fixture
def run(managed: RunningBroker) -> Run:
    """What a command prints that does what it is to do."""

    def run(*arguments: str, given: str = "") -> str:
        done = ctl(managed, *arguments, given=given)
        assert done.returncode == 0, done
        return done.stdout

    return run


def add_user(broker: RunningBroker, name: str, *tags: str) -> Api:
    """The API as this new user."""
    broker.command("user", "add", name, "--password-stdin", given=f"{PASSWORD}\n")
    if tags:
        broker.command("user", "tags", name, *tags)
    return Api(broker.http_port, name, PASSWORD)
