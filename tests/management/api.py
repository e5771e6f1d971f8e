"""An HTTP client for these tests: a request, and what came back, with nothing between them."""

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

LOOPBACK = "127.0.0.1"


class Answer(NamedTuple):
    """One answer; `body` is what its JSON says, or its text where it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Api:
    """The API on a port, as one user; a connection of its own for each request."""

    def __init__(self, port: int, user: str = "guest", password: str = "guest") -> None:
        self.port = port
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}"}

    def as_user(self, user: str, password: str) -> "Api":
        return Api(self.port, user, password)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        base: str = "/api",
    ) -> Answer:
        """`path` below `base`, as it is to be sent; `body` becomes JSON, `raw` is sent as it is."""
        if body is not None:
            raw = json.dumps(body).encode()
        sent = {**self.headers, "Content-Type": "application/json", **(headers or {})}
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=60)
        try:
            connection.request(method, f"{base}{path}", body=raw, headers=sent)
            response = connection.getresponse()
            text = response.read().decode()
            received = {name.casefold(): value for name, value in response.getheaders()}
        finally:
            connection.close()
        try:
            return Answer(response.status, received, json.loads(text) if text else None)
        except json.JSONDecodeError:
            return Answer(response.status, received, text)

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def put(self, path: str, body: Any = None) -> Answer:
        return self.ask("PUT", path, {} if body is None else body)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.ask("POST", path, {} if body is None else body)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)
