"""What the supervisor tells a shard or the template: each a tagged, array-like msgspec Struct, one to a packet."""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from ipc.messages.rules import NO_RULES, Rules
from ipc.settings import Settings


class Level(IntEnum):
    """How hard a compaction pass tries; each level includes the ones before it."""

    TRIM = 1  # rebuild collections that outgrew their content
    RELEASE = 2  # also give cold pages and free allocator pages back
    CRITICAL = 3  # also shed caches and move survivors out of fragmented memory


class Command(Struct, frozen=True, array_like=True, tag=True):
    """Base of everything that travels downwards."""


class SpawnShard(Command, frozen=True):
    """To the template: fork a shard. One descriptor travels along: the shard's end of its link."""

    shard: int


class Start(Command, frozen=True):
    """First word to a shard after its `Hello`; one descriptor travels along, for copies of what it logs."""

    shard: int
    settings: Settings
    data_directory: str


class OpenVHost(Command, frozen=True):
    """Own this vhost: recover it from `directory` and answer `VHostOpened` or `VHostFailed`."""

    name: str
    directory: str
    rules: Rules = NO_RULES


class CloseVHost(Command, frozen=True):
    """Give this vhost up: its clients are closed with 320, its files flushed; answered by `VHostClosed`."""

    name: str


class TopicPermissions(Struct, frozen=True, array_like=True):
    """One user's regular expressions for routing keys on one topic exchange; an empty one denies.

    `{username}` and `{vhost}` in them stand for the client's own.
    """

    exchange: str
    write: str
    read: str


class Permissions(Struct, frozen=True, array_like=True):
    """One user's regular expressions in one vhost; an empty one denies."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicPermissions, ...] = ()  # an exchange that is not among them: every routing key
    channels_max: int | None = None  # on all its connections to the vhost together


THE_BROKER: Final = ""
"""Who its own clients are when nobody else is behind them; a user's name is never empty. It may use reserved names."""


class NegotiatedClient(Struct, frozen=True, array_like=True):
    """What the router and the client agreed on, up to and including `connection.open`."""

    name: str  # "127.0.0.1:40312 -> 127.0.0.1:5672"
    user: str
    tags: tuple[str, ...]
    vhost: str
    permissions: Permissions
    frame_max: int  # bytes, frame overhead included
    channel_max: int
    heartbeat_seconds: int  # 0: none
    mechanism: str
    client_properties: bytes  # raw field table as sent, length prefix included: decoded only when somebody looks
    capabilities: frozenset[str]  # names of the client's capabilities that are true
    unread: bytes  # came in the same read as connection.open, or after it
    is_literal: bool = False  # what it declares is written in a file, and the vhost's defaults add nothing to it


class AdoptClient(Command, frozen=True):
    """Serve this client. One descriptor travels along: its socket. The shard sends `connection.open-ok`."""

    client: NegotiatedClient


class PermissionsChanged(Command, frozen=True):
    """A user's permissions in a vhost of this shard are different from now on; `None`: no longer any."""

    user: str
    vhost: str
    permissions: Permissions | None


class RulesChanged(Command, frozen=True):
    """Other policies and limits hold in a vhost from now on: all of them, whichever changed."""

    vhost: str
    rules: Rules


class SettingsChanged(Command, frozen=True):
    """Settings that can change in a running broker did (SIGHUP)."""

    settings: Settings


class Alarms(Struct, frozen=True, array_like=True):
    """Which resources are short; publishers wait while any is."""

    memory: bool = False
    disk: bool = False


class AlarmsChanged(Command, frozen=True):
    """These alarms are raised from now on and no others."""

    alarms: Alarms


IDLE: Final = "idle"
"""The trigger of passes that nobody asked for."""


class Compact(Command, frozen=True):
    """Run a compaction pass; answered by `Reclaimed` with the same `pass_number`."""

    pass_number: int
    level: Level
    trigger: str  # "SIGUSR1", "systemd", "cgroup", "system", "watermark", "memory alarm", …


class Question(Command, frozen=True):
    """Base of what is only asked; every `Answer` to it has the same number."""

    number: int


class AskStatus(Question, frozen=True):
    """Answered by `ShardStatus`."""


class AskMemory(Question, frozen=True):
    """What memory is used for; answered by pages of `Holdings` and then a `MemoryAccount`."""

    vhost: str | None  # only what is for this one
    top: int  # how many vhosts, queues and connections are named


class AskReclaimable(Question, frozen=True):
    """What a pass of this level would free; answered by `Reclaimable`."""

    level: Level


class PauseQueue(Question, frozen=True):
    """Have a queue hand nothing out, or go on; answered by `QueuePaused`, by whoever does not have it, too."""

    vhost: str
    queue: str
    is_paused: bool


class BackUpVHost(Question, frozen=True):
    """Copy a vhost, as it is at one moment, to a directory that is there; answered by `BackedUp`."""

    vhost: str
    target: str


class StopBackup(Command, frozen=True):
    """Whatever is being copied: answer soon, nobody wants it any more."""


class AskInventory(Question, frozen=True):
    """What the management process wants to know, or done: a request of `ipc/messages/inventory.py`, msgpack.

    Answered by `Inventory`, piece by piece.
    """

    request: bytes


class Probe(Command, frozen=True):
    """Say something: answered by `Listening`."""


class Drain(Command, frozen=True):
    """Close clients with 320, flush, close the store, answer `Drained` and end, all within `seconds`."""

    seconds: float


ShardCommand = (
    Start
    | OpenVHost
    | CloseVHost
    | AdoptClient
    | PermissionsChanged
    | RulesChanged
    | SettingsChanged
    | AlarmsChanged
    | Compact
    | AskStatus
    | AskMemory
    | AskReclaimable
    | PauseQueue
    | BackUpVHost
    | StopBackup
    | AskInventory
    | Probe
    | Drain
)
TemplateCommand = SpawnShard
