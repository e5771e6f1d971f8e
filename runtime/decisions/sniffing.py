"""Which protocol a client speaks, told from its first bytes."""

from enum import Enum
from typing import Final


class Protocol(Enum):
    AMQP = "AMQP"
    MQTT = "MQTT"
    TLS = "TLS"
    HTTP = "HTTP"
    UNKNOWN = "unknown"


# The shortest beginning that decides. MQTT's CONNECT is type 1 with no flags; its name follows a remaining length of
# one to four bytes, so the first byte has to do: no other protocol here begins with it.
_BEGINNINGS: Final = {
    b"AMQP": Protocol.AMQP,
    b"\x10": Protocol.MQTT,
    b"\x16\x03": Protocol.TLS,
    b"GET ": Protocol.HTTP,
    b"HEAD ": Protocol.HTTP,
    b"POST ": Protocol.HTTP,
    b"PUT ": Protocol.HTTP,
    b"OPTIONS ": Protocol.HTTP,
}


def sniff(received: bytes) -> Protocol | None:
    """The protocol these first bytes belong to; None while more than one is still possible."""
    for beginning, protocol in _BEGINNINGS.items():
        if received.startswith(beginning):
            return protocol
    if any(beginning.startswith(received) for beginning in _BEGINNINGS):
        return None
    return Protocol.UNKNOWN
