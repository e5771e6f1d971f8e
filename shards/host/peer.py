"""A client's socket and the connection behind it."""

import socket

from shards.protocols.amqp.connection import Connection


class Peer:
    """What the pump keeps per client: no task, no stream, no buffer."""

    __slots__ = ("appointment", "connection", "descriptor", "interest", "is_clogged", "is_leaving", "socket")

    def __init__(self, client: socket.socket, connection: Connection) -> None:
        self.socket = client
        self.descriptor = client.fileno()
        self.connection = connection
        self.interest = 0  # epoll events asked for
        self.appointment = 0  # its deadline, as the agenda keeps it
        self.is_clogged = False  # the kernel took less than there was to send
        self.is_leaving = False  # a close is under way, and has its deadline
