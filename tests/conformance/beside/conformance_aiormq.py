"""The two fixtures that aiormq's tests ask for and its source distribution lacks: where the broker is."""

import os
from typing import Final, NamedTuple

import pytest
from yarl import URL

BROKER: Final = URL(os.environ["CONFORMANCE_BROKER"])
NOBODY_LISTENS: Final = 9  # the port discard; addresses with TLS are made for every test, but not used


class Container(NamedTuple):
    """As much as the tests know of one."""

    host: str
    ports: dict[str, int]


@pytest.fixture(scope="session")
def rabbitmq_container() -> Container:
    assert BROKER.host is not None and BROKER.port is not None
    return Container(BROKER.host, {"5672/tcp": BROKER.port, "5671/tcp": NOBODY_LISTENS})


@pytest.fixture(scope="session")
def amqp_direct_url() -> URL:
    return BROKER
