"""Conversations on the control socket: in order, bounded, and no client is another one's trouble."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from ipc.limits import (
    CONTROL_ANSWER_SECONDS_MAX,
    CONTROL_CLIENTS_MAX,
    CONTROL_IDLE_SECONDS,
    CONTROL_REQUEST_BYTES_MAX,
    CONTROL_SEND_SECONDS_MAX,
)
from ipc.messages import control
from runtime.control.server import ControlServer, Say

HELLO = control.Hello(control.PROTOCOL, "fingerprint", "0.1.0", 7, control.ASKS)


class Defect(Exception):
    pass


async def answer(request: control.ControlRequest, say: Say) -> None:
    """`status` ends, `memory` says a lot, `metrics` never comes, and `passes` is broken."""
    match request:
        case control.Memory(top=top):
            for _ in range(top):
                await say(control.Largest("queue", ()))
        case control.Metrics():
            await trio.sleep_forever()
        case control.Passes():
            raise Defect("because the test says so")
        case _:
            pass
    await say(control.End())


class Client:
    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._rest = b""

    async def say(self, *lines: bytes) -> None:
        await self.stream.send_all(b"".join(line + b"\n" for line in lines))

    async def hear(self) -> dict[str, Any] | None:
        """The next line; None at the end."""
        while b"\n" not in self._rest:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        heard: dict[str, Any] = msgspec.json.decode(line)
        return heard

    async def heard(self, *says: str) -> None:
        for expected in says:
            line = await self.hear()
            assert line is not None
            assert line.get("code", line["say"]) == expected, line


@asynccontextmanager
async def client(server: ControlServer) -> AsyncIterator[Client]:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.receive, theirs)
        yield Client(ours)
        nursery.cancel_scope.cancel()


@pytest.fixture
def server() -> ControlServer:
    return ControlServer(HELLO, answer)


async def test_hello_comes_first_and_says_what_can_be_asked(server: ControlServer) -> None:
    async with client(server) as somebody:
        hello = await somebody.hear()
    assert hello is not None
    assert (hello["say"], hello["protocol"]) == ("hello", 1)
    assert "memory" in hello["asks"]


async def test_requests_are_answered_in_order_however_they_come(server: ControlServer) -> None:
    async with client(server) as somebody:
        await somebody.say(b'{"ask":"status"}', b'{"ask":"memory","top":2}', b'{"ask":"status"}')
        await somebody.heard("hello", "end", "largest", "largest", "end", "end")
        for byte in b'{"ask":"memory","top":1}\n':
            await somebody.stream.send_all(bytes([byte]))
        await somebody.heard("largest", "end")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"status",
        b"{",
        b"\xff\xfe",
        b'{"ask":"nothing"}',
        b'{"ask":"memory","top":"many"}',
        b"[" * 10_000,
        b"null",
        b'{"ask":"memory","vhost":"\xff"}',
    ],
)
async def test_what_is_no_request_is_refused_and_the_conversation_goes_on(server: ControlServer, line: bytes) -> None:
    async with client(server) as somebody:
        await somebody.say(line, b'{"ask":"status"}')
        await somebody.heard("hello", "bad-request", "end")


async def test_a_line_without_end_ends_the_conversation(server: ControlServer) -> None:
    async with client(server) as somebody:
        await somebody.stream.send_all(b"x" * (CONTROL_REQUEST_BYTES_MAX + 1))
        await somebody.heard("hello", "too-large")
        assert await somebody.hear() is None


async def test_a_defect_is_told_to_who_asked_and_to_nobody_else(server: ControlServer) -> None:
    async with client(server) as somebody, client(server) as other:
        await somebody.say(b'{"ask":"passes"}', b'{"ask":"status"}')
        await somebody.heard("hello", "failed", "end")
        await other.say(b'{"ask":"status"}')
        await other.heard("hello", "end")


async def test_one_who_says_nothing_is_sent_away(server: ControlServer, autojump_clock: trio.testing.MockClock) -> None:
    async with client(server) as somebody:
        began = trio.current_time()
        await somebody.heard("hello", "too-slow")
        assert await somebody.hear() is None
        assert trio.current_time() - began == pytest.approx(CONTROL_IDLE_SECONDS)


async def test_an_answer_that_does_not_come_is_given_up(
    server: ControlServer, autojump_clock: trio.testing.MockClock
) -> None:
    async with client(server) as somebody:
        began = trio.current_time()
        await somebody.say(b'{"ask":"metrics"}', b'{"ask":"status"}')
        await somebody.heard("hello", "too-slow", "end")
        assert trio.current_time() - began == pytest.approx(CONTROL_ANSWER_SECONDS_MAX)


async def test_one_who_does_not_read_is_left(server: ControlServer, autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    began = trio.current_time()
    with trio.fail_after(10 * CONTROL_SEND_SECONDS_MAX):
        await server.receive(theirs)
    assert trio.current_time() - began == pytest.approx(CONTROL_SEND_SECONDS_MAX)
    await ours.aclose()


async def test_there_is_room_for_so_many_and_again_when_they_have_gone(server: ControlServer) -> None:
    pairs = [memory_stream_pair() for _ in range(CONTROL_CLIENTS_MAX + 1)]
    async with trio.open_nursery() as nursery:
        for ours, theirs in pairs:
            nursery.start_soon(server.receive, theirs)
            first = await Client(ours).hear()
            assert first is not None
            expected = "refused" if ours is pairs[-1][0] else "hello"
            assert first["say"] == expected
        await pairs[0][0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with client(server) as late:
            await late.heard("hello")
        nursery.cancel_scope.cancel()
