"""What is told of a data directory: values that become a page of text or JSON."""

from msgspec import Struct


class Damage(Struct, frozen=True):
    """A place in a file that is not as it was written."""

    file: str
    offset: int
    size_bytes: int
    what: str  # a sentence without its file: what is wrong, and what is lost with it


class StoreAccount(Struct):
    """Messages of one queue, or those that wait at one exchange, as the next start will find them."""

    kind: str  # "queue" or "delayed"
    name: str
    number: int  # of its directory; 0 where the exchange has none and the directory its name
    messages: int = 0  # not settled, with what stands in the journal only
    message_bytes: int = 0  # of their bodies
    settled: int = 0  # that are in files still
    segments: int = 0
    segments_known: int = 0  # of these, to the register: not read by the next start
    file_bytes: int = 0  # of segments and ack logs on disk
    journal_entries: int = 0  # that a start puts in their place
    levels: dict[int, int] = {}  # messages by priority, in a priority queue
    start: list[str] = []  # what the next start will do about it
    refusal: str = ""  # why it cannot be opened


class JournalAccount(Struct, frozen=True):
    """What turns did to queues that is not known to be in its place."""

    files: int = 0
    file_bytes: int = 0
    entries: int = 0
    stores: int = 0


class VHostAccount(Struct):
    name: str
    directory: str
    ended_in_order: bool = False  # the register is complete: a start reads no queue's files
    journal: JournalAccount = JournalAccount()
    stores: list[StoreAccount] = []
    exchanges: int = 0
    bindings: int = 0
    orphans: list[str] = []  # directories of queues that no definition names: a start removes them
    set_aside: list[str] = []  # damaged segments that earlier starts have kept
    damages: list[Damage] = []
    sentences: list[str] = []  # what recovery itself would tell
    refusal: str = ""  # why it cannot be opened

    @property
    def messages(self) -> int:
        return sum(store.messages for store in self.stores)

    @property
    def is_damaged(self) -> bool:
        return bool(self.damages or self.sentences or self.refusal or any(store.refusal for store in self.stores))


class DirectoryAccount(Struct):
    path: str
    format: str
    is_in_use: bool  # a broker runs: what is told may be out of date before it is read
    is_verified: bool  # every checksum was compared
    vhosts: list[VHostAccount] = []

    @property
    def is_damaged(self) -> bool:
        return any(vhost.is_damaged for vhost in self.vhosts)
