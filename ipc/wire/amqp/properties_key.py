"""A short name for a binding among those of the same two ends, as RabbitMQ forms it.

The routing key as a form's value, and behind a tilde a hash of the arguments if there are any; a tilde alone for
neither.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import msgspec


def properties_key(routing_key: str, arguments: Mapping[str, Any]) -> str:
    """The same for equal bindings, and after a restart."""
    quoted = quote_plus(routing_key).replace("~", "%7E")
    if not arguments:
        return quoted or "~"
    encoded = msgspec.msgpack.encode(arguments, order="deterministic")
    digest = hashlib.blake2b(encoded, digest_size=16).digest()
    return f"{quoted}~{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
