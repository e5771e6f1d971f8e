"""What the management process and the supervisor say to each other, in packets like those to and from shards."""

from typing import TypeAlias

from msgspec import Struct

from ipc.messages.commands import Compact
from ipc.messages.control import ControlReply, ControlRequest
from ipc.messages.logins import Attempt
from ipc.messages.reports import Hello, Reclaimed
from ipc.settings import Settings

# from the management process ------------------------------------------------------------------------------------------


class Upward(Struct, frozen=True, array_like=True, tag=True):
    """Base of what the management process asks; every answer has the same number."""

    number: int


class AskShards(Upward, frozen=True):
    """A request of `ipc/messages/inventory.py`, to the owner of a vhost or to all shards."""

    vhost: str | None
    request: bytes


class Enter(Upward, frozen=True):
    """Be a client, let in without a password; answered by `Entered` or `Barred`."""

    user: str  # or `THE_BROKER`, for the broker itself and the operator at the machine, who may do everything
    vhost: str
    name: str  # as lists of connections show it
    is_literal: bool = False  # as in `NegotiatedClient`


class AskSupervisor(Upward, frozen=True):
    """What may be asked over the control socket."""

    request: ControlRequest


class Follow(Upward, frozen=True):
    """The directory was changed; answered by `Over` when it is told to the shards and every vhost is open."""


class MayTry(Upward, frozen=True):
    """Whether this user's password may be checked for somebody there; answered by `Patience`."""

    user: str
    address: str


class Attempted(Upward, frozen=True):
    """Count this; not answered."""

    attempt: Attempt


class Abandon(Upward, frozen=True):
    """Nobody waits any more for the answer with this number."""


ManagementReport: TypeAlias = (
    Hello | AskShards | Enter | AskSupervisor | Follow | MayTry | Attempted | Abandon | Reclaimed
)


# to the management process --------------------------------------------------------------------------------------------


class Downward(Struct, frozen=True, array_like=True, tag=True):
    """Base of what the supervisor says."""


class Begin(Downward, frozen=True):
    """First word after its `Hello`; one descriptor travels along, for copies of what it logs."""

    settings: Settings
    data_directory: str
    started_at: float  # of the broker, in seconds since 1970
    addresses: tuple[str, ...]  # where AMQP clients may come
    pid: int  # the supervisor's


class Reconfigured(Downward, frozen=True):
    """Settings were read again."""

    settings: Settings


class DirectoryChanged(Downward, frozen=True):
    """By whomever: read it again."""


class Heard(Downward, frozen=True):
    """One piece of what one shard answers."""

    number: int
    shard: int
    piece: bytes


class Told(Downward, frozen=True):
    """One line of what the supervisor answers."""

    number: int
    reply: ControlReply


class Entered(Downward, frozen=True):
    """One descriptor travels along: a stream on which the shard's first word is `connection.open-ok`."""

    number: int
    frame_max: int


class Barred(Downward, frozen=True):
    """Why one cannot be a client there; `code` is AMQP's."""

    number: int
    code: int
    text: str


class Patience(Downward, frozen=True):
    """How long to wait before a password may be checked; 0: not at all."""

    number: int
    seconds: float


class Over(Downward, frozen=True):
    """The end of an answer; it is complete when nobody was silent."""

    number: int
    silent: dict[int, str] = {}


ManagementCommand: TypeAlias = (
    Begin | Reconfigured | DirectoryChanged | Heard | Told | Entered | Barred | Patience | Over | Compact
)
