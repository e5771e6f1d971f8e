"""Lets amqpstorm's tests clean up over AMQP: they use the management API for it, and fail where there is none."""

from collections.abc import Sequence

from amqpstorm import AMQPError, Channel, Connection
from amqpstorm.tests import HOST, PASSWORD, USERNAME
from amqpstorm.tests.functional import utility


def clean(names: Sequence[str], queue: bool = False, exchange: bool = False) -> None:
    """In place of the suite's function of this name, so its parameters are the suite's."""
    if not queue and not exchange:
        return
    with Connection(HOST, USERNAME, PASSWORD) as connection:
        for name in names:
            if queue:
                _delete(connection.channel(), "queue", name)
            if exchange:
                _delete(connection.channel(), "exchange", name)


def _delete(channel: Channel, kind: str, name: str) -> None:
    """On a channel of its own: a refusal closes it."""
    try:
        getattr(channel, kind).delete(name)
        channel.close()
    except AMQPError:
        pass


utility.clean = clean
