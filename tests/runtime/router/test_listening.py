"""Listening: every address of the settings, one port, clear refusals."""

import socket

import pytest
import structlog.testing

from ipc.errors import ExitCode, StartRefused
from ipc.settings import AmqpSettings
from runtime.router.listening import amqp, open_listeners

ABSENT_V6 = "2001:db8::1"  # documentation prefix: no machine has it


async def refusal_of(settings: AmqpSettings) -> StartRefused:
    with pytest.raises(StartRefused) as refused:
        await open_listeners(amqp(settings))
    return refused.value


async def test_port_0_is_the_same_free_port_on_every_address() -> None:
    listeners = await open_listeners(amqp(AmqpSettings(bind="127.0.0.1, 127.0.0.2", port=0)))
    names = [listener.socket.getsockname() for listener in listeners]
    for listener in listeners:
        listener.socket.close()

    assert [name[0] for name in names] == ["127.0.0.1", "127.0.0.2"]
    assert names[0][1] == names[1][1] != 0


async def test_an_address_named_twice_is_listened_on_once() -> None:
    listeners = await open_listeners(amqp(AmqpSettings(bind="127.0.0.1,127.0.0.1", port=0)))
    for listener in listeners:
        listener.socket.close()

    assert len(listeners) == 1


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = await refusal_of(AmqpSettings(bind="127.0.0.1", port=port))

    assert refused.exit_code is ExitCode.PORT_IN_USE
    assert str(refused) == f"127.0.0.1:{port} is in use by another process"


async def test_what_was_opened_before_a_refusal_is_closed() -> None:
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        await refusal_of(AmqpSettings(bind="127.0.0.1,127.0.0.2", port=port))

        socket.create_server(("127.0.0.1", port)).close()


async def test_an_absent_ipv6_address_is_left_out_with_a_warning() -> None:
    with structlog.testing.capture_logs() as logs:
        listeners = await open_listeners(amqp(AmqpSettings(bind=f"127.0.0.1,{ABSENT_V6}", port=0)))
    for listener in listeners:
        listener.socket.close()

    assert len(listeners) == 1
    assert [(log["log_level"], log["address"]) for log in logs] == [("warning", ABSENT_V6)]


@pytest.mark.parametrize("bind", [ABSENT_V6, "192.0.2.1", "127.0.0.1,192.0.2.1", "not an address", " , "])
async def test_an_address_that_is_not_ours_is_a_bad_setting(bind: str) -> None:
    refused = await refusal_of(AmqpSettings(bind=bind, port=0))

    assert refused.exit_code is ExitCode.SETTINGS_INVALID
    assert str(refused).startswith("amqp.bind: ")
