"""HEAD is answered as GET is, without the body, also where that comes bit by bit."""

import http.client
from typing import Any

import pytest
import trio

from runtime.management.heads import with_heads
from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK, Api


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/overview", 200),
        ("/api/queues/%2F", 200),
        ("/api/definitions", 200),
        ("/api/health/checks/alarms", 200),
        ("/api/queues/%2F/none", 404),
        ("/metrics", 200),
        ("/docs/openapi.json", 200),
        ("/api/memory/compact", 405),
    ],
)
def test_head_is_get_without_a_body(managed: RunningBroker, path: str, status: int) -> None:
    """On one connection, which would be out of step if a body came."""
    connection = http.client.HTTPConnection(LOOPBACK, managed.http_port, timeout=60)
    headers = Api(0).headers
    try:
        for method in ("HEAD", "GET", "HEAD", "GET"):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            assert response.status == status
            assert response.headers["content-type"]
            assert bool(body) is (method == "GET")
    finally:
        connection.close()


def test_who_may_not_get_it_may_not_head_it(managed: RunningBroker) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, managed.http_port, timeout=60)
    try:
        connection.request("HEAD", "/api/overview")
        assert connection.getresponse().status == 401
    finally:
        connection.close()


async def test_a_body_without_end_is_not_waited_for() -> None:
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["method"] == "GET"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
            await trio.sleep(0)

    async def send(message: Any) -> None:
        sent.append(message)

    with trio.fail_after(5):
        await with_heads(app)({"type": "http", "method": "HEAD"}, None, send)  # type: ignore[arg-type]

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert (sent[1]["body"], sent[1]["more_body"]) == (b"", False)
