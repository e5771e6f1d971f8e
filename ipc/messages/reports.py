"""What a shard or the template tells the supervisor."""

from typing import Final, Literal, TypeAlias, get_args

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


SUPERVISOR: Final = -1
MANAGEMENT: Final = -2
"""The numbers under which those report that are no shards."""


ENDED: Final = MemoryReading(0, 0, 0)
"""What there is after a pass for which a process ends."""


class Reclaimed(Report, frozen=True):
    """What one pass gave back in one process."""

    shard: int  # or one of the two above
    pass_number: int
    level: Level
    trigger: str
    seconds: float
    slice_seconds_longest: float  # by the clock: what clients had to wait
    slice_cpu_seconds_longest: float  # less than that where it had to wait for a processor
    steps: int
    freed_bytes_by_kind: dict[str, int]
    freed_bytes_by_vhost: dict[str, int]  # of those that most was freed for
    failures: int
    before: MemoryReading
    after: MemoryReading  # or ENDED


class StorageBlocked(Report, frozen=True):
    """The file system refuses writes; publishers wait and nothing is lost. An empty `reason`: it takes them again."""

    shard: int
    reason: str


class Listening(Report, frozen=True):
    """The answer to `Probe`: commands are still obeyed."""


class Drained(Report, frozen=True):
    shard: int
    clients: int


class Answer(Report, frozen=True):
    """Base of what answers a `Question`; more of it follows until `is_last`."""

    number: int
    shard: int
    is_last: bool


class Unanswered(Answer, frozen=True):
    """The shard has a defect where it should have answered; its log tells more."""

    reason: str


class ShardStatus(Answer, frozen=True):
    vhosts: int
    queues: int
    connections: int
    seconds: float  # since it was started


Sort: TypeAlias = Literal["vhost", "queue", "connection"]
"""Who is named in an account of memory."""
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)


class Holding(Struct, frozen=True, array_like=True, gc=False):
    """What one vhost, queue or connection holds; bytes, estimated. Its kinds add up to its size."""

    vhost: str
    name: str
    size_bytes: int
    by_kind: dict[str, int]


class MemoryAccount(Answer, frozen=True):
    """What one shard's memory is used for, all vhosts together or the one that was asked for; after its `Holdings`."""

    reading: MemoryReading  # of the whole process
    by_kind: dict[str, int]
    counts: dict[Sort, int]
    owners: int  # looked at
    seconds: float  # the walk took, the broker's own work between its slices included
    seconds_cpu: float  # of them, for the walk
    slice_seconds_longest: float  # the same of its longest slice
    age_seconds: float  # an account that was just made for somebody else serves us too


class Holdings(Answer, frozen=True):
    """One page of those who hold most, most first."""

    sort: Sort
    holdings: tuple[Holding, ...]


class Reclaimable(Answer, frozen=True):
    """What a pass would have freed of collections, caches and pages; nobody knows it of the allocator beforehand."""

    level: Level
    by_kind: dict[str, int]
    by_vhost: dict[str, int]
    failures: int
    seconds: float
    slice_seconds_longest: float
    reading: MemoryReading


class QueuePaused(Answer, frozen=True):
    """A queue hands nothing out now, or goes on; `is_found`: this shard has it."""

    is_found: bool


class BackedUp(Answer, frozen=True):
    """A vhost's copy is on disk; or a `failure` says why not, and what there is of it is of no use."""

    failure: str
    cut_at: float  # seconds since 1970: the moment it shows
    cut_seconds: float  # for which clients had to wait
    files_linked: int  # that share their room with the broker's


class Inventory(Answer, frozen=True):
    """One piece of what answers `AskInventory`."""

    piece: bytes


ShardReport = (
    Hello
    | VHostOpened
    | VHostFailed
    | VHostClosed
    | Reclaimed
    | StorageBlocked
    | Listening
    | Unanswered
    | ShardStatus
    | MemoryAccount
    | Holdings
    | Reclaimable
    | QueuePaused
    | BackedUp
    | Inventory
    | Drained
)
TemplateReport = Hello | ShardSpawned | ChildEnded
