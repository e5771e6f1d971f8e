"""Whose fault it was: a client broke the protocol, the broker refuses a wish, or the broker itself cannot start.

Reply codes are those of AMQP 0-9-1 (specification §1.2) with RabbitMQ's additions.
"""

from enum import IntEnum
from typing import Final

from ipc.limits import SHORT_STRING_BYTES_MAX

_ELLIPSIS: Final = "..."


class ReplyCode(IntEnum):
    """Reply codes of `connection.close`, `channel.close` and `basic.return`."""

    SUCCESS = 200
    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    NO_CONSUMERS = 313
    CONNECTION_FORCED = 320
    INVALID_PATH = 402
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


def shortened(text: str) -> str:
    """As much of it as a short string holds; that something is missing is told as RabbitMQ does."""
    whole = text.encode()
    if len(whole) <= SHORT_STRING_BYTES_MAX:
        return text
    return whole[: SHORT_STRING_BYTES_MAX - len(_ELLIPSIS)].decode(errors="ignore") + _ELLIPSIS


class Refusal(Exception):
    """The broker will not do what a client asked; `code` and `text` are what the client is told."""

    def __init__(self, code: ReplyCode, text: str) -> None:
        super().__init__(f"{code.name} - {text}")
        self.code = code
        self.text = text

    @property
    def reply_text(self) -> str:
        """What stands in `reply-text`, at most 255 bytes of UTF-8: `NOT_FOUND - no queue 'q' in vhost '/'`."""
        return shortened(str(self))


class ChannelRefusal(Refusal):
    """Ends the channel it was asked on; its siblings live."""


class ConnectionRefusal(Refusal):
    """Ends the connection: the peer broke the protocol, or may not be here."""


class NotFound(ChannelRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.NOT_FOUND, text)


class AccessRefused(ChannelRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.ACCESS_REFUSED, text)


class ResourceLocked(ChannelRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.RESOURCE_LOCKED, text)


class PreconditionFailed(ChannelRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.PRECONDITION_FAILED, text)


class FrameError(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.FRAME_ERROR, text)


class SyntaxRefused(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.SYNTAX_ERROR, text)


class UnexpectedFrame(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.UNEXPECTED_FRAME, text)


class ChannelError(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.CHANNEL_ERROR, text)


class NotAllowed(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.NOT_ALLOWED, text)


class NotImplementedRefusal(ConnectionRefusal):
    def __init__(self, text: str) -> None:
        super().__init__(ReplyCode.NOT_IMPLEMENTED, text)


class ExitCode(IntEnum):
    """How the `ebbmq` process ends; documented in README.md."""

    OK = 0
    FAILED = 1  # something no other code names
    USAGE = 2  # an unknown flag or command (click's convention)
    SETTINGS_INVALID = 10
    PORT_IN_USE = 11
    DATA_DIRECTORY_IN_USE = 12
    DATA_DIRECTORY_UNUSABLE = 13  # read-only, full, not a directory, not ours
    FORMAT_UNKNOWN = 14  # written by a newer version, or by something else
    STORE_DAMAGED = 15
    SHARD_UNRECOVERABLE = 16  # a shard kept dying past its restart limit
    KERNEL_FEATURE_MISSING = 17
    NO_BROKER = 18  # a command asked for one that runs
    CONTROL_DENIED = 19  # the control socket is somebody else's
    ANSWER_INCOMPLETE = 20  # at least one shard did not answer
    NOT_READY = 21  # the broker recovers or drains, and whoever asked wanted one that serves
    UNAVAILABLE = 69  # rabbitmqctl's: a command for what is not here, or a check that does not pass


class ControlFailed(Exception):
    """A command cannot ask the broker: one sentence for a person, and the `exit_code` the command ends with."""

    def __init__(self, exit_code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class StartRefused(Exception):
    """The broker cannot start or go on: one sentence for a person, and the `exit_code` the process ends with."""

    def __init__(self, exit_code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
