"""Direct reply-to: a channel consumes from a pseudo-queue, and answers to what it publishes come straight to it.

Who publishes with a pseudo-queue's name in `reply_to` is known by another name to whoever answers, which nobody can
guess. Behind that name stands a queue that is in no list, and that ends with its consumer or its channel.
"""

from typing import TYPE_CHECKING, Final

from pamqp import commands

from ipc.errors import NotFound, PreconditionFailed
from ipc.wire.amqp.properties import REPLY_QUEUES

if TYPE_CHECKING:
    from ipc.wire.amqp.methods import Method
    from shards.model.queues.queue import Queue
    from shards.protocols.amqp.channel import Channel

PSEUDO_QUEUES: Final = frozenset(REPLY_QUEUES)


def is_reserved(queue: str) -> bool:
    """Whether this is a pseudo-queue's name, or may be one that was put in its place."""
    return queue.startswith(REPLY_QUEUES)


def open_queue(channel: "Channel", method: commands.Basic.Consume) -> "Queue":
    """The queue behind the pseudo-queue that is to be consumed; raises PreconditionFailed (406)."""
    if not method.no_ack:
        raise PreconditionFailed("reply consumer cannot acknowledge")
    if channel.reply_consumer is not None:
        raise PreconditionFailed("reply consumer already set")
    connection = channel.connection
    return connection.vhost.open_replies(method.queue, connection)


def declare(channel: "Channel", method: commands.Queue.Declare) -> "Method | None":
    """Who answers may ask this way whether the question's author is still there; raises NotFound (404)."""
    vhost = channel.connection.vhost
    if method.queue not in PSEUDO_QUEUES and not vhost.has_replies(method.queue):
        raise NotFound(f"no queue '{method.queue}' in vhost '{vhost.name}'")
    channel.last_queue = method.queue
    if method.nowait:
        return None
    reply = commands.Queue.DeclareOk(message_count=0, consumer_count=1)
    reply.queue = method.queue
    return reply
