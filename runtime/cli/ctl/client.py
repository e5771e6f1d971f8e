"""Asks the management API for one command: the socket in the data directory, or a URI with a user and a password."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

import click
import httpx

from ipc.errors import ControlFailed, ExitCode

PATIENCE_SECONDS: Final = 300.0  # for one answer: an import may take its time
CONNECT_SECONDS: Final = 10.0
PAGE_SIZE: Final = 500
_NOT_FOUND: Final = "Not Found"

Document = dict[str, Any]


class ApiRefused(click.ClickException):
    """What the broker says to a request it does not carry out."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Api:
    """One broker's API. Raises ControlFailed where nobody answers, ApiRefused where it says no."""

    def __init__(self, client: httpx.Client, where: str) -> None:
        self._client = client
        self._where = where

    @classmethod
    def local(cls, path: Path, whose: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """By the socket that only the broker's user can open; `whose` it is stands in what is told to a person."""
        transport = httpx.HTTPTransport(uds=str(path))
        return cls(_client("http://localhost", transport, patience_seconds), whose)

    @classmethod
    def remote(
        cls, uri: str, credentials: tuple[str, str] | None = None, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> Self:
        """`http://user:password@host:15672`; guest where no user is named, unless there are other `credentials`."""
        parts = urlsplit(uri if "://" in uri else f"http://{uri}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"{uri!r} is no URI like http://user:password@host:15672")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        base = f"{parts.scheme}://{host}:{parts.port or (443 if parts.scheme == 'https' else 15672)}"
        named = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return cls(_client(base, None, patience_seconds, auth=credentials or named), base)

    def close(self) -> None:
        self._client.close()

    def get(self, *path: str, **query: Any) -> Any:
        """What stands at this path, whose parts may hold any character."""
        return self._ask("GET", path, query=query)

    def read(self, *path: str, advance: Callable[[int], None]) -> bytes:
        """The same as it is written; `advance` is told how many bytes have come."""
        read = bytearray()
        with _broken_off(self._where), self._client.stream("GET", _url(path)) as answer:
            if answer.is_error:
                answer.read()
                raise ApiRefused(answer.status_code, _reason(answer, path))
            for piece in answer.iter_bytes():
                read += piece
                advance(len(read))
        return bytes(read)

    def find(self, *path: str) -> Any:
        """The same, or None where there is nothing."""
        try:
            return self.get(*path)
        except ApiRefused as refused:
            if refused.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def listing(self, *path: str, **query: Any) -> Iterator[Document]:
        """All of a long list, page by page."""
        page = 1
        while True:
            found = self.get(*path, page=page, page_size=PAGE_SIZE, **query)
            yield from found["items"]
            if page >= found["page_count"]:
                return
            page += 1

    def events(self, *path: str) -> Iterator[tuple[str, str, str]]:
        """Server-sent events as they come: id, kind and data of each. Raises ControlFailed when they break off."""
        with _broken_off(self._where), self._client.stream("GET", _url(path)) as answer:
            if answer.is_error:
                answer.read()
                raise ApiRefused(answer.status_code, _reason(answer, path))
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif not line:
                    if "data" in fields:
                        yield fields.get("id", ""), fields.get("event", "message"), fields["data"]
                    fields = {}

    def put(self, *path: str, body: Any = None) -> Any:
        return self._ask("PUT", path, body=body)

    def post(self, *path: str, body: Any = None) -> Any:
        return self._ask("POST", path, body=body)

    def delete(self, *path: str, headers: dict[str, str] | None = None, query: Document | None = None) -> Any:
        return self._ask("DELETE", path, query=query, headers=headers)

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Document | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        content = None if body is None and method == "GET" else json.dumps({} if body is None else body)
        with _broken_off(self._where):
            answer = self._client.request(
                method,
                _url(path),
                params={name: value for name, value in (query or {}).items() if value is not None},
                content=content if method in ("PUT", "POST") else None,
                headers={"content-type": "application/json", "accept": "application/json", **(headers or {})},
            )
        if answer.is_error:
            raise ApiRefused(answer.status_code, _reason(answer, path))
        return answer.json() if answer.content else None


def _url(path: tuple[str, ...]) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in path)


@contextmanager
def _broken_off(where: str) -> Iterator[None]:
    """Raises ControlFailed where the conversation with whoever answers at `where` fails."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
        if _is_denied(fault):
            raise ControlFailed(ExitCode.CONTROL_DENIED, f"{where} answers its own user and root only") from fault
        raise ControlFailed(ExitCode.NO_BROKER, f"{where} does not answer: {fault}") from fault
    except httpx.HTTPError as fault:
        raise ControlFailed(ExitCode.ANSWER_INCOMPLETE, f"{where} broke off: {fault}") from fault


def _is_denied(fault: BaseException | None) -> bool:
    """The kernel's word, below those of two libraries."""
    while fault is not None:
        if isinstance(fault, PermissionError):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def _client(
    base: str,
    transport: httpx.HTTPTransport | None,
    patience_seconds: float,
    auth: tuple[str, str] | None = None,
) -> httpx.Client:
    timeout = httpx.Timeout(patience_seconds, connect=min(CONNECT_SECONDS, patience_seconds))
    # Neither proxies nor passwords from the surroundings: a broker is asked as it was named.
    return httpx.Client(base_url=base, transport=transport, auth=auth, timeout=timeout, trust_env=False)


def _reason(answer: httpx.Response, path: tuple[str, ...]) -> str:
    """What the API says, and what is missing where it says no more than that something is."""
    try:
        said = " ".join(str(answer.json()["reason"]).split())
    except (ValueError, KeyError, TypeError):
        said = f"{answer.status_code} {answer.reason_phrase}"
    return f"{said}: {' '.join(path)}" if said == _NOT_FOUND else said
