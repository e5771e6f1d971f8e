"""A short name for a binding among those of the same two ends, as RabbitMQ forms it.

The routing key, and behind a tilde a hash of the arguments if there are any; a tilde alone for neither.
"""

import base64
import hashlib

from shards.model.bindings import Arguments, arguments_key


def properties_key(routing_key: str, arguments: Arguments) -> str:
    """The same for equal bindings, and after a restart."""
    if not arguments:
        return routing_key.replace("~", "%7E") or "~"
    digest = hashlib.blake2b(arguments_key(arguments), digest_size=16).digest()
    return f"{routing_key.replace('~', '%7E')}~{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
