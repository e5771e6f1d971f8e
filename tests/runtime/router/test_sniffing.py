"""Sniffing: the first bytes decide, and no earlier than they can."""

import pytest

from runtime.decisions.sniffing import Protocol, sniff


@pytest.mark.parametrize(
    ("received", "protocol"),
    [
        (b"AMQP\x00\x00\x09\x01", Protocol.AMQP),
        (b"\x10\x10\x00\x04MQTT\x04", Protocol.MQTT),
        (b"\x16\x03\x01\x02\x00\x01", Protocol.TLS),
        (b"GET / HTTP/1.1\r\n", Protocol.HTTP),
        (b"OPTIONS * HTTP/1.1\r\n", Protocol.HTTP),
        (b"SSH-2.0", Protocol.UNKNOWN),
        (b"\x16\x04", Protocol.UNKNOWN),
        (b"AMQX", Protocol.UNKNOWN),
        (b"", None),
        (b"AMQ", None),
        (b"\x16", None),
        (b"P", None),
    ],
)
def test_a_protocol_is_told_from_its_first_bytes(received: bytes, protocol: Protocol | None) -> None:
    assert sniff(received) is protocol


def test_more_bytes_never_change_a_decision() -> None:
    for whole in (b"AMQP\x00\x00\x09\x01", b"POST /api HTTP/1.1", b"\x16\x03\x01", b"nonsense"):
        decisions = [sniff(whole[:size]) for size in range(len(whole) + 1)]
        decided = [decision for decision in decisions if decision is not None]
        assert len(set(decided)) == 1
        assert decisions[-len(decided) :] == decided
