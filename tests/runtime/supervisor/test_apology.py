"""While the management process cannot be started, whoever asks hears so, and slow ones keep nobody for long."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from ipc.limits import APOLOGIES_AT_ONCE, APOLOGY_SECONDS_MAX
from runtime.supervisor.apology import apologise


@asynccontextmanager
async def apologising() -> AsyncIterator[int]:
    """The port where that is done."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(apologise, [listening])
            with trio.fail_after(20):
                yield listening.getsockname()[1]
            nursery.cancel_scope.cancel()


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of what is answered."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        await client.send_all(request)
        head, _, body = b"".join([piece async for piece in client]).partition(b"\r\n\r\n")
        return head, body


async def test_it_is_said_as_rabbitmqs_api_says_things() -> None:
    async with apologising() as port:
        head, body = await ask(port, b"GET /api/overview HTTP/1.1\r\nHost: here\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
        assert json.loads(body)["error"] == "unavailable"
        assert await ask(port, b"HEAD / HTTP/1.1\r\n\r\n") == (head, b"")


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_a_body_that_is_still_on_its_way_does_not_hide_the_answer(size: int) -> None:
    async with apologising() as port:
        head, body = await ask(port, b"POST /api/definitions HTTP/1.1\r\nHost: here\r\n\r\n" + b"x" * size)

    assert b" 503 " in head
    assert body


async def test_silent_and_endless_ones_are_left_after_a_while() -> None:
    async with apologising() as port:
        slow = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(APOLOGIES_AT_ONCE)]
        await slow[0].send_all(b"GET / HTTP/1.1\r\nX: ")
        began = trio.current_time()

        head, _body = await ask(port, b"GET / HTTP/1.1\r\n\r\n")

        assert b" 503 " in head
        assert trio.current_time() - began < APOLOGY_SECONDS_MAX + 5
        for client in slow:
            assert await client.receive_some() == b""
            await client.aclose()
