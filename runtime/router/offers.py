"""What the broker tells every AMQP client about itself."""

import platform
from functools import lru_cache
from typing import Any, Final

from ipc.settings import AmqpSettings
from ipc.version import VERSION
from ipc.wire.amqp.negotiation import Offer, make_offer

CAPABILITIES: Final = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "consumer_priorities",
    "connection.blocked",
    "per_consumer_qos",
    "direct_reply_to",
    "authentication_failure_close",
)


def server_properties() -> dict[str, Any]:
    """The field table of `connection.start`."""
    return {
        "product": "EbbMQ",
        "version": VERSION,
        "platform": f"Python {platform.python_version()}",
        "capabilities": dict.fromkeys(CAPABILITIES, True),
    }


@lru_cache(maxsize=1)
def offer(settings: AmqpSettings) -> Offer:
    """The offer for these settings, encoded again only after they changed."""
    return make_offer(
        server_properties(),
        frame_max=settings.frame_max,
        channel_max=settings.channel_max,
        heartbeat_seconds=settings.heartbeat,
    )
