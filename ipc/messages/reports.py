"""What a shard or the template tells the supervisor."""

from msgspec import Struct

from ipc.messages.commands import Level


class Report(Struct, frozen=True, array_like=True, tag=True):
    """Base of everything that travels upwards."""


class Hello(Report, frozen=True):
    """First word of every child; a fingerprint other than ours means that the installation was changed under us."""

    fingerprint: str
    role: str  # "template" or "shard"
    pid: int


class ShardSpawned(Report, frozen=True):
    """From the template: the fork succeeded."""

    shard: int
    pid: int


class ChildEnded(Report, frozen=True):
    """From the template: a child of it ended; `status` as `os.waitstatus_to_exitcode` gives it."""

    pid: int
    status: int


class VHostOpened(Report, frozen=True):
    """A vhost takes clients from now on; the rest is what its recovery found."""

    name: str
    queues: int
    messages: int
    bytes_cut: int  # torn tails, never confirmed
    acks_pruned: int  # beyond the end of their data
    segments_damaged: int  # quarantined beside their queue
    seconds: float


class VHostFailed(Report, frozen=True):
    """A vhost cannot be opened; `damaged` when its files are at fault rather than the file system."""

    name: str
    reason: str
    damaged: bool


class VHostClosed(Report, frozen=True):
    name: str


class MemoryReading(Struct, frozen=True, array_like=True):
    """One process's memory in bytes, from `/proc/self/smaps_rollup`."""

    rss: int
    pss: int
    private: int


class Reclaimed(Report, frozen=True):
    """What one pass gave back in one process."""

    shard: int  # -1: the supervisor itself
    pass_number: int
    level: Level
    trigger: str
    seconds: float
    slice_seconds_longest: float
    steps: int
    freed_bytes_by_kind: dict[str, int]
    freed_bytes_by_vhost: dict[str, int]
    failures: int
    before: MemoryReading
    after: MemoryReading


class StorageBlocked(Report, frozen=True):
    """The file system refuses writes; publishers wait and nothing is lost. An empty `reason`: it takes them again."""

    shard: int
    reason: str


class Listening(Report, frozen=True):
    """The answer to `Probe`: commands are still obeyed."""


class Drained(Report, frozen=True):
    shard: int
    clients: int


ShardReport = Hello | VHostOpened | VHostFailed | VHostClosed | Reclaimed | StorageBlocked | Listening | Drained
TemplateReport = Hello | ShardSpawned | ChildEnded
