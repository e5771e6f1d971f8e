"""What may be asked of a running broker over its control socket, and what it says: JSON, one object to a line.

```
broker  {"say":"hello","protocol":1,"fingerprint":…,"asks":["status","memory",…]}
client  {"ask":"memory","top":10}
broker  {"say":"largest","sort":"queue","held":[…]}      any number of lines
        {"say":"shard-memory","shard":0,…}
        {"say":"end","silent":[]}                        or {"say":"refused","code":…,"text":…}
```
Requests are answered one after the other, each with lines of its own up to `end` or `refused`, and no line is longer
than `CONTROL_REPLY_BYTES_MAX`. Lines and not packets, JSON and not msgpack: it is asked once a second at most, and any
language, or a person with `socat`, can speak it. Its words are not those between our own processes, which change with
every version: `protocol` counts up only when a line changes its meaning, and readers skip fields they do not know.
"""

from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

from ipc.limits import ACCOUNT_NAMED_MAX, LOG_WAIT_SECONDS_MAX, PASSES_REMEMBERED_MAX
from ipc.messages.commands import Level
from ipc.messages.reports import Sort
from ipc.settings import Count, LogFormat, LogLevel, Share

PROTOCOL: Final = 1

LevelName: TypeAlias = Literal["trim", "release", "critical"]
LEVELS: Final[dict[LevelName, Level]] = {"trim": Level.TRIM, "release": Level.RELEASE, "critical": Level.CRITICAL}
LEVEL_NAMES: Final[dict[Level, LevelName]] = {level: name for name, level in LEVELS.items()}


def _dashed(name: str) -> str:
    """`ShardMemory` as it stands in a line: `shard-memory`."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


# requests -------------------------------------------------------------------------------------------------------------


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask", tag=_dashed):
    """Base of everything that may be asked; a field that does not exist is refused, because it was meant to matter."""


class Status(Request, frozen=True):
    """Is it well: a `broker`, and a `shard` for each."""


class Memory(Request, frozen=True):
    """What is memory used for: `largest` of each sort in pages, `shard-memory` and `process-memory`."""

    vhost: str | None = None  # count only what is for this one
    top: Annotated[int, Meta(ge=0, le=ACCOUNT_NAMED_MAX)] = 10


class DryRun(Request, frozen=True):
    """What would a pass of this level free: a `reclaimable` for each shard."""

    level: LevelName = "trim"


class Compact(Request, frozen=True):
    """Run a pass now; its `pass` and a `reclaimed` for each process."""

    level: LevelName = "release"


class Passes(Request, frozen=True):
    """The last passes, oldest first, each a `pass` and its `reclaimed`."""

    last: Annotated[int, Meta(ge=1, le=PASSES_REMEMBERED_MAX)] = PASSES_REMEMBERED_MAX


class Metrics(Request, frozen=True):
    """Counters since the start, and how short memory is: one `counters`."""


class PauseQueue(Request, frozen=True):
    """Have a queue hand nothing out until it is resumed, also after a restart: a `queue-state`."""

    queue: str
    vhost: str = "/"


class ResumeQueue(Request, frozen=True):
    """The opposite of `PauseQueue`."""

    queue: str
    vhost: str = "/"


class LoginAttempts(Request, frozen=True):
    """How many have logged in or tried to: `login-attempt` for each protocol, or for each source of them."""

    by_source: bool = False


class ForgetLoginAttempts(Request, frozen=True):
    """Count them from 0 again."""


class LimitAlarms(Request, frozen=True):
    """Raise alarms at other limits until the broker is started again, whatever the settings say; None: as it is."""

    memory_share_max: Share | None = None
    memory_bytes_max: Count | None = None
    disk_free_bytes_min: Count | None = None


class SuspendListeners(Request, frozen=True):
    """Refuse AMQP clients that come from now on; those that are here go on."""


class ResumeListeners(Request, frozen=True):
    """The opposite of `SuspendListeners`."""


class BackUp(Request, frozen=True):
    """Copy everything the broker keeps to a directory, which is new or empty: lines of `progress`, then a `backup`.

    It is not made when whoever asked has gone before its end.
    """

    target: str  # an absolute path, as the broker sees it


class ReadLog(Request, frozen=True):
    """What was logged after a line with this number: a page of them, one `log-lines`; empty when nothing came."""

    after: int = 0
    wait_seconds: Annotated[float, Meta(ge=0, le=LOG_WAIT_SECONDS_MAX)] = 0.0


class DescribeLog(Request, frozen=True):
    """Where it goes, from which level on, and what is kept of it: one `log`."""


class SetLogLevel(Request, frozen=True):
    """Log from this level on, in all processes, until settings are read again: the `log` as it is then."""

    level: LogLevel


class RotateLog(Request, frozen=True):
    """Open the file of the log anew, in all processes: the `log` as it is then."""


ControlRequest: TypeAlias = (
    Status
    | Memory
    | DryRun
    | Compact
    | Passes
    | Metrics
    | PauseQueue
    | ResumeQueue
    | LoginAttempts
    | ForgetLoginAttempts
    | LimitAlarms
    | SuspendListeners
    | ResumeListeners
    | BackUp
    | ReadLog
    | DescribeLog
    | SetLogLevel
    | RotateLog
)
ASKS: Final[tuple[str, ...]] = tuple(_dashed(request.__name__) for request in get_args(ControlRequest))


# replies --------------------------------------------------------------------------------------------------------------


class Reply(Struct, frozen=True, tag_field="say", tag=_dashed):
    """Base of every line the broker says."""


class Hello(Reply, frozen=True):
    """The first line of every conversation."""

    protocol: int
    fingerprint: str  # of all messages: where it is ours, so is every field
    version: str
    pid: int
    asks: tuple[str, ...]


class Refused(Reply, frozen=True):
    """The last line of an answer that could not be given, or of the conversation."""

    code: Literal["bad-request", "too-large", "too-slow", "busy", "failed"]
    text: str


class Silent(Struct, frozen=True):
    """A shard that is missing in an answer."""

    shard: int
    reason: str


class End(Reply, frozen=True):
    """The last line of an answer; it is complete when nobody was silent."""

    silent: tuple[Silent, ...] = ()


class Reading(Struct, frozen=True):
    """One process's memory in bytes, as the kernel counts it."""

    rss: int
    pss: int
    private: int


class Broker(Reply, frozen=True):
    version: str
    pid: int
    data_directory: str
    state: Literal["starting", "ready", "draining"]
    seconds: float  # since it was started
    shards: int
    addresses: tuple[str, ...]  # where AMQP clients may come
    pressure_source: str
    pressure_level: LevelName | None
    alarms: tuple[Literal["memory", "disk"], ...] = ()  # raised now: publishers wait
    memory_bytes: int = 0  # of all processes, what the kernel cannot take back
    memory_bytes_max: int | None = None  # where the memory alarm is raised; None: nowhere
    disk_free_bytes: int | None = None  # on the data's file system
    disk_free_bytes_min: int = 0


class Shard(Reply, frozen=True):
    shard: int
    pid: int | None
    vhosts: int
    queues: int
    connections: int
    seconds: float


class QueueState(Reply, frozen=True):
    """`found`: there is such a queue; then `paused` says how it is now."""

    vhost: str
    queue: str
    found: bool
    paused: bool


class LoginAttempt(Reply, frozen=True):
    """What was counted; `address` and `user` where it was counted by source."""

    protocol: str
    succeeded: int
    failed: int
    address: str = ""
    user: str = ""


class Progress(Reply, frozen=True):
    """A sign of life while something takes long."""

    vhosts_done: int
    vhosts: int
    seconds: float


class Backup(Reply, frozen=True):
    """A backup is complete and on disk."""

    target: str
    vhosts: int
    files: int
    files_linked: int  # that share their room with the broker's
    bytes: int
    seconds: float
    cut_seconds_longest: float  # for which clients of one vhost had to wait


class LoggedLine(Struct, frozen=True):
    """One line of the log."""

    at: str
    level: str
    source: str
    text: str
    lost: int = 0  # lines of that process before this one that nobody kept


class LogLines(Reply, frozen=True):
    """Lines one after the other, the first of which has the number `first`."""

    first: int
    lines: tuple[LoggedLine, ...]
    lost: int  # before them, that are not kept any more


class Log(Reply, frozen=True):
    """How and where is logged, and what is kept of it."""

    level: LogLevel
    format: LogFormat
    location: str  # a file, or `stderr`
    lines: int
    size_bytes: int
    size_bytes_max: int


class Held(Struct, frozen=True):
    """What one vhost, queue or connection holds; bytes, estimated."""

    vhost: str
    name: str
    size_bytes: int
    by_kind: dict[str, int]


class Largest(Reply, frozen=True):
    """A page of those of one sort that hold most, most first."""

    sort: Sort
    held: tuple[Held, ...]


class ShardMemory(Reply, frozen=True):
    """One shard's account; what its process has beyond it, `reading.private` less `by_kind`, is not accounted for."""

    shard: int
    pid: int | None
    reading: Reading
    by_kind: dict[str, int]
    counts: dict[Sort, int]
    owners: int
    seconds: float
    seconds_cpu: float
    slice_seconds_longest: float
    age_seconds: float


Role: TypeAlias = Literal["shard", "supervisor", "management"]
"""Which process takes part in passes."""


class ProcessMemory(Reply, frozen=True):
    """A process that holds no vhost."""

    role: Literal["supervisor", "template", "management"]
    pid: int
    reading: Reading
    by_kind: dict[str, int] = {}  # of it, as far as it is accounted for


class Reclaimable(Reply, frozen=True):
    """What a pass would free in one process."""

    shard: int | None  # None: it is no shard
    role: Role
    level: LevelName
    by_kind: dict[str, int]
    by_vhost: dict[str, int]
    failures: int
    seconds: float
    slice_seconds_longest: float
    reading: Reading


class Pass(Reply, frozen=True):
    """One pass over all processes; a `reclaimed` of each of them follows."""

    number: int
    level: LevelName
    trigger: str
    began_at: float  # seconds since 1970
    seconds: float | None  # None: it is not over yet
    unanswered: tuple[int, ...]  # shards; below 0: other processes


class Reclaimed(Reply, frozen=True):
    """What one pass gave back in one process."""

    number: int
    shard: int | None  # None: it is no shard
    role: Role
    seconds: float
    slice_seconds_longest: float
    steps: int
    by_kind: dict[str, int]
    by_vhost: dict[str, int]
    failures: int
    before: Reading
    after: Reading  # all zeros where the process ended with the pass


class PassCount(Struct, frozen=True):
    trigger: str
    level: LevelName
    count: int


class Averages(Struct, frozen=True):
    """The share of time, in percent, that tasks waited for memory, over the last seconds; and microseconds in all."""

    avg10: float
    avg60: float
    avg300: float
    total: int


class Counters(Reply, frozen=True):
    """Since the supervisor was started."""

    passes: tuple[PassCount, ...]
    freed_bytes_by_kind: dict[str, int]
    slice_seconds_longest: float
    failures: int
    unanswered: int
    pressure_source: str
    pressure_level: LevelName | None  # of the pass that pressure called for last, while it still counts
    pressure_file: str | None
    some: Averages | None  # at least one task waited
    full: Averages | None  # all of them did


ControlReply: TypeAlias = (
    Hello
    | Refused
    | End
    | Broker
    | Shard
    | Largest
    | ShardMemory
    | ProcessMemory
    | Reclaimable
    | Pass
    | Reclaimed
    | Counters
    | QueueState
    | LoginAttempt
    | Progress
    | Backup
    | LogLines
    | Log
)
