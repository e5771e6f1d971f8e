"""Clients that are answered before they have said everything: they hear it, and are not kept for ever."""

import socket

import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK, Api

BODY_BYTES_MAX = 33_554_432  # the default of `management.body_bytes_max`


def test_who_sends_all_of_a_body_that_is_too_large_hears_so(managed: RunningBroker, api: Api) -> None:
    answer = api.ask("POST", "/exchanges/%2F/amq.fanout/publish", raw=b" " * (BODY_BYTES_MAX + 1))

    assert (answer.status, answer.body["error"]) == (413, "payload_too_large")


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("password", ["guest", "wrong"])
def test_who_is_refused_before_its_body_was_read_is_parted_with(managed: RunningBroker, password: str) -> None:
    """Also when it never stops sending; each such client would be kept for ever otherwise."""
    authorization = Api(managed.http_port, "guest", password).headers["Authorization"]
    head = f"POST /api/nowhere HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {2**40}\r\n\r\n"
    with socket.create_connection((LOOPBACK, managed.http_port), timeout=20) as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):
            send_for_ever(connection)
