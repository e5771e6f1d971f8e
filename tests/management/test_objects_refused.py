"""Every endpoint of queues, exchanges, bindings and messages refuses whoever lacks the tag or the permission."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api
from tests.management.conftest import add_user

MESSAGE = {"properties": {}, "routing_key": "q", "payload": "hello", "payload_encoding": "string"}


class Request(NamedTuple):
    method: str
    path: str
    body: Any = None


EVERYWHERE = [Request("GET", path) for path in ("/queues", "/exchanges", "/bindings")]
LOOKS = [
    Request("GET", path)
    for path in (
        "/queues/%2F",
        "/queues/%2F/q",
        "/queues/%2F/q/bindings",
        "/queues/%2F/q/unacked",
        "/exchanges/%2F",
        "/exchanges/%2F/x",
        "/exchanges/%2F/x/bindings/source",
        "/exchanges/%2F/x/bindings/destination",
        "/bindings/%2F",
        "/bindings/%2F/e/x/q/q",
        "/bindings/%2F/e/x/q/q/k",
        "/bindings/%2F/e/x/e/y",
        "/bindings/%2F/e/x/e/y/k",
    )
]
ACTS = [
    Request("PUT", "/queues/%2F/new", {}),
    Request("DELETE", "/queues/%2F/q"),
    Request("DELETE", "/queues/%2F/q/contents"),
    Request("DELETE", "/queues/%2F/q/contents?count=1"),
    Request("POST", "/queues/%2F/q/get", {"count": 1, "ackmode": "ack_requeue_false"}),
    Request("POST", "/queues/%2F/q/actions", {"action": "sync"}),
    Request("PUT", "/queues/%2F/q/pause"),
    Request("PUT", "/queues/%2F/q/resume"),
    Request("PUT", "/exchanges/%2F/new", {"type": "direct"}),
    Request("DELETE", "/exchanges/%2F/x"),
    Request("POST", "/exchanges/%2F/amq.default/publish", MESSAGE),
    Request("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "new"}),
    Request("POST", "/bindings/%2F/e/x/e/y", {"routing_key": "new"}),
    Request("DELETE", "/bindings/%2F/e/x/q/q/k"),
    Request("DELETE", "/bindings/%2F/e/x/e/y/k"),
]
RESTART = Request("PUT", "/queues/%2F/q/restart")


class Callers(NamedTuple):
    untagged: Api  # may do everything as a client, and has no business here
    stranger: Api  # has a tag, and nothing to do in the vhost
    looker: Api  # may enter the vhost, and do nothing in it
    monitor: Api  # sees everything, and may not enter the vhost


@pytest.fixture(scope="module")
def callers(managed: RunningBroker) -> Callers:
    found = Callers(
        untagged=add_user(managed, "untagged"),
        stranger=add_user(managed, "stranger", "management"),
        looker=add_user(managed, "looker", "management"),
        monitor=add_user(managed, "monitor", "monitoring"),
    )
    managed.permit("untagged", "/", configure=".*", write=".*", read=".*")
    managed.permit("looker", "/", configure="", write="", read="")
    return found


@pytest.fixture(scope="module", autouse=True)
def everything(managed: RunningBroker) -> Iterator[None]:
    """What is asked about is there, and after all those refusals it is still as it was."""
    api = Api(managed.http_port)
    api.put("/queues/%2F/q", {"durable": True})
    api.put("/exchanges/%2F/x", {"type": "topic"})
    api.put("/exchanges/%2F/y", {"type": "topic"})
    api.post("/bindings/%2F/e/x/q/q", {"routing_key": "k"})
    api.post("/bindings/%2F/e/x/e/y", {"routing_key": "k"})
    api.post("/exchanges/%2F/amq.default/publish", MESSAGE)
    before = standing(api)
    yield
    assert standing(api) == before


def standing(api: Api) -> Any:
    return (
        api.get("/queues/%2F?columns=name,messages,state").body,
        api.get("/exchanges/%2F?columns=name").body,
        api.get("/bindings/%2F").body,
    )


def status(api: Api, request: Request) -> int:
    return api.ask(request.method, request.path, request.body).status


def said(request: Request) -> str:
    return f"{request.method} {request.path}"


@pytest.mark.parametrize("request_", [*EVERYWHERE, *LOOKS, *ACTS, RESTART], ids=said)
def test_nobody_is_answered_without_a_tag(callers: Callers, request_: Request) -> None:
    assert status(callers.untagged, request_) == 401


@pytest.mark.parametrize("request_", [*LOOKS, *ACTS, RESTART], ids=said)
def test_nobody_sees_or_does_anything_in_a_vhost_without_permissions(callers: Callers, request_: Request) -> None:
    assert status(callers.stranger, request_) == 401


@pytest.mark.parametrize("request_", EVERYWHERE, ids=said)
def test_lists_hold_nothing_of_vhosts_without_permissions(callers: Callers, request_: Request) -> None:
    assert callers.stranger.get(request_.path).body == []


@pytest.mark.parametrize("request_", [*EVERYWHERE, *LOOKS], ids=said)
def test_who_may_enter_a_vhost_may_look(callers: Callers, request_: Request) -> None:
    assert status(callers.looker, request_) == 200


@pytest.mark.parametrize("request_", ACTS, ids=said)
def test_nobody_does_anything_without_the_permission_for_it(callers: Callers, request_: Request) -> None:
    assert status(callers.looker, request_) == 401


@pytest.mark.parametrize("request_", [*EVERYWHERE, *LOOKS], ids=said)
def test_who_monitors_sees_every_vhost(callers: Callers, request_: Request) -> None:
    assert status(callers.monitor, request_) == 200


@pytest.mark.parametrize("request_", [*ACTS, RESTART], ids=said)
def test_who_monitors_does_nothing_in_a_vhost_without_permissions(callers: Callers, request_: Request) -> None:
    assert status(callers.monitor, request_) == 401
