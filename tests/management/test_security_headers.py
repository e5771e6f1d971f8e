"""What every answer tells browsers, whatever it is an answer to and whoever gives it."""

import http.client
import re
from collections.abc import Mapping
from typing import Any

import pytest

from runtime.decisions.security_headers import SECURITY_HEADERS
from runtime.management.security import secured
from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK, Api


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Mapping[str, str], str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, {name.casefold(): value for name, value in response.getheaders()}, text
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/whoami", 200),
        ("HEAD", "/api/overview", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/definitions", 200),
        ("PUT", "/api/queues/%2F/secured", 201),
        ("DELETE", "/api/queues/%2F/secured", 204),
        ("POST", "/api/queues/%2F/q/get", 400),
        ("GET", "/api/queues/%2F/none", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/queues/%FF", 400),
        ("POST", "/api/whoami", 405),
        ("GET", "/nothing", 404),
        ("GET", "/", 404),
    ],
)
def test_every_answer_has_them(managed: RunningBroker, method: str, path: str, status: int) -> None:
    answered, headers, _text = ask(
        managed.http_port, method, path, b"{}" if method == "PUT" else None, **Api(0).headers
    )

    assert answered == status
    assert {name: headers.get(name.casefold()) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "strict-transport-security" not in headers


def test_who_is_not_let_in_hears_them_too(managed: RunningBroker) -> None:
    answered, headers, _text = ask(managed.http_port, "GET", "/api/whoami")

    assert answered == 401
    assert {name: headers.get(name.casefold()) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize("path", ["/docs", "/docs/swagger"])
def test_the_page_about_the_api_loads_what_its_policy_allows(managed: RunningBroker, path: str) -> None:
    """Scripts and styles of one version from one place; what it asks for is on this broker."""
    status, headers, page = ask(managed.http_port, "GET", path)

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    (scripts_from,) = {word for word in policy["script-src"].split() if word.startswith("https:")}
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert status == 200
    assert re.fullmatch(r"https://\S+@\d+\.\d+\.\d+/", scripts_from)
    assert len(loaded) >= 3
    assert all(address.startswith(scripts_from) for address in loaded)
    assert not re.findall(r"(?:src|href)='([^']+)'", page)
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert {name: headers.get(name.casefold()) for name in SECURITY_HEADERS if name != "Content-Security-Policy"} == {
        name: value for name, value in SECURITY_HEADERS.items() if name != "Content-Security-Policy"
    }


@pytest.mark.parametrize("path", ["/docs/openapi.json", "/docs/openapi.yaml"])
def test_the_description_of_the_api_is_there(managed: RunningBroker, path: str) -> None:
    status, headers, text = ask(managed.http_port, "GET", path)

    assert status == 200
    assert "/api/whoami" in text
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("scheme", "strict"), [("http", None), ("https", b"max-age=31536000")])
async def test_where_it_goes_over_tls_it_is_to_stay_so_and_what_an_answer_says_itself_counts(
    scheme: str, strict: bytes | None
) -> None:
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"no-cache")]})

    async def send(message: Any) -> None:
        sent.append(message)

    await secured(app)({"type": "http", "scheme": scheme, "path": "/"}, None, send)  # type: ignore[arg-type]

    headers = dict(sent[0]["headers"])
    assert headers.get(b"strict-transport-security") == strict
    assert headers[b"Cache-Control"] == b"no-cache"
    assert b"cache-control" not in headers
    assert len(headers) == len(SECURITY_HEADERS) + (strict is not None)
