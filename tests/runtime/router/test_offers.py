"""What every client is told about the broker."""

import tomllib
from pathlib import Path

from pamqp import commands

from ipc.settings import AmqpSettings
from ipc.version import VERSION
from ipc.wire.amqp import frames, methods
from runtime.router.offers import offer, server_properties

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_version_is_the_distributions() -> None:
    assert tomllib.loads(PROJECT.read_text())["project"]["version"] == VERSION


def test_the_start_frame_carries_mechanisms_and_what_the_broker_can_do() -> None:
    start = methods.decode(offer(AmqpSettings()).start_frame[frames.HEADER_BYTES : -1])

    assert isinstance(start, commands.Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)
    assert dict(start)["mechanisms"] == b"PLAIN AMQPLAIN"
    assert dict(start)["server_properties"] == server_properties()


def test_an_offer_is_encoded_once_per_settings() -> None:
    assert offer(AmqpSettings()) is offer(AmqpSettings())
    assert offer(AmqpSettings(heartbeat=5)).heartbeat_seconds == 5
