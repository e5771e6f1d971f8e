"""What became of an attempt to log in, as the process that heard it tells the supervisor, which counts all of them."""

from typing import Literal, TypeAlias

from msgspec import Struct

Protocol: TypeAlias = Literal["amqp091", "http"]
"""By RabbitMQ's names."""

Outcome: TypeAlias = Literal["in", "barred", "wrong", "refused"]
"""`barred`: the right password, but not from there, or not of somebody who may come this way; `refused`: unchecked."""


class Attempt(Struct, frozen=True, array_like=True):
    """Somebody came with a name and a password."""

    protocol: Protocol
    user: str
    address: str  # the client's, without its port
    outcome: Outcome
