"""How many have logged in or tried to, by protocol and by who came from where."""

from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api
from tests.management.conftest import add_user, served

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    tracking = ("--set", "users.track_auth_attempt_source=true")
    with served(tmp_path_factory.mktemp("tracking"), *tracking) as broker:
        yield broker


def of_node(api: Api) -> str:
    return f"/auth/attempts/{api.get('/overview').body['node']}"


def row(protocol: str, succeeded: int, failed: int, **source: str) -> dict[str, Any]:
    return {
        **source,
        "protocol": protocol,
        "auth_attempts": succeeded + failed,
        "auth_attempts_failed": failed,
        "auth_attempts_succeeded": succeeded,
    }


def test_attempts_are_counted_by_protocol_and_source_and_can_be_forgotten(tracking: RunningBroker) -> None:
    api = Api(tracking.http_port)
    path = of_node(api)
    nobody = add_user(tracking, "untagged")
    assert api.delete(path).status == 204

    pika.BlockingConnection(pika.URLParameters(tracking.url)).close()
    assert api.as_user("guest", "wrong").get("/whoami").status == 401
    assert nobody.get("/whoami").status == 401  # the right password, but no tag: failed, as in RabbitMQ
    assert api.ask("GET", "/whoami", headers={"Authorization": ""}).status == 401  # and this is no attempt

    by_protocol = api.get(path).body
    by_source = api.get(f"{path}/source").body
    here = {"remote_address": "127.0.0.1"}
    assert by_protocol == [row("amqp091", 1, 0), row("http", 1, 2)]
    assert by_source == [
        row("amqp091", 1, 0, **here, username="guest"),
        row("http", 2, 1, **here, username="guest"),
        row("http", 0, 1, **here, username="untagged"),
    ]
    assert api.delete(f"{path}/source").status == 204
    assert api.get(path).body == [row("http", 1, 0)]


def test_sources_are_not_tracked_unless_that_is_set(api: Api) -> None:
    assert api.get(f"{of_node(api)}/source").body == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("rest", ["", "/source"])
def test_another_node_is_not_there(api: Api, method: str, rest: str) -> None:
    assert api.ask(method, f"/auth/attempts/rabbit@elsewhere{rest}").status == 404
