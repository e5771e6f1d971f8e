"""What a publisher says in properties about where a message goes, and who it is: checked, followed, and not passed on.

`CC` and `BCC` have more routing keys (`shards/model/carbon_copies.py`); `reply_to` may name a pseudo-queue, for which
the name that leads to its consumer is put; `user_id` must be true. Of what publishers leave out the broker adds the
time, if its operator wants that.
"""

from typing import TYPE_CHECKING, Final

from ipc.errors import PreconditionFailed
from ipc.wire.amqp import amending
from ipc.wire.amqp.properties import Facts

if TYPE_CHECKING:
    from shards.protocols.amqp.channel import Channel
    from shards.protocols.amqp.connection import Connection

_IMPERSONATOR: Final = "impersonator"


def is_plain(connection: "Connection", facts: Facts) -> bool:
    """Whether a message with these properties is routed and stored just as it came: then nothing below is needed."""
    return (
        not (facts.reply_to_at or facts.may_have_copies)
        and _is_own_name(connection, facts)
        and not lacks_timestamp(connection, facts)
    )


def lacks_timestamp(connection: "Connection", facts: Facts) -> bool:
    """Whether the broker is to say when the message came, because its publisher did not."""
    return connection.settings.set_timestamps and not facts.has_timestamp


def with_timestamp(header: bytes, now: int) -> bytes:
    """The header payload with the time of arrival, in whole seconds as AMQP has it."""
    moment = amending.moment(now)[1:]  # without the kind of field that it would be in a table
    return amending.with_property(header, amending.TIMESTAMP, moment)


def _is_own_name(connection: "Connection", facts: Facts) -> bool:
    return facts.user_id is None or facts.user_id == connection.client.user.encode()


def check_user(connection: "Connection", facts: Facts) -> None:
    """Raises PreconditionFailed (406) for somebody else's name, except for those who may speak for others."""
    if _is_own_name(connection, facts) or _IMPERSONATOR in connection.client.tags:
        return
    claimed = str(facts.user_id or b"", "utf-8", "replace")
    raise PreconditionFailed(
        f"user_id property set to '{claimed}' but authenticated user was '{connection.client.user}'"
    )


def with_reply_address(channel: "Channel", header: bytes, facts: Facts) -> bytes:
    """The header payload with the name that leads to this channel's consumer of direct replies.

    Raises PreconditionFailed (406) when there is none.
    """
    consumer = channel.reply_consumer
    if consumer is None:
        raise PreconditionFailed("fast reply consumer does not exist")
    name = consumer.queue.name.encode()
    at = facts.reply_to_at
    return header[:at] + bytes((len(name),)) + name + header[at + 1 + header[at] :]
