"""Where things lie in a data directory; who may use it is decided by `runtime/supervisor/`.

```
DATA/
  format                       "ebbmq data format 2\\n": checked by every start, which brings 1 up to date
  lock                         held with flock by the supervisor; its content is the supervisor's pid
  control.sock                 asks a running broker: `ebbmq status`, `ebbmq memory`
  http.sock                    the management API for the broker's own user: `ebbmqctl`
  directory.sqlite             users, permissions, vhosts, placement, policies, limits
  vhosts/NUMBER/               one vhost, whichever shard owns it
    name                       the vhost's name, for people
    definitions.sqlite         durable exchanges, queues and bindings
    segments                   the register: what is known of segments that no longer change
    journal/                   what turns did to durable queues and is not in its place yet
    queues/NUMBER/             a durable queue's segments and ack logs
    delayed/NUMBER/            the same for messages that wait at a durable exchange; NAME if every vhost has it
    transient/NUMBER/          the same for queues and exchanges that vanish; emptied whenever the vhost opens
    aside/                     what a backup under way still needs
    unsynced                   there while some of it may be with the kernel only (`durability = "os"`)
```
"""

from pathlib import Path
from typing import Final

FORMAT_VERSION: Final = 2
FORMAT_LINE: Final = f"ebbmq data format {FORMAT_VERSION}\n"
FORMAT_LINES_READ: Final = ("ebbmq data format 1\n",)
"""Older ones, which a start makes the current one. Who knows only 1 would leave the registers of vhosts as they are."""


class DataDirectory:
    """Paths below one data directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()

    @property
    def format(self) -> Path:
        return self.root / "format"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def control(self) -> Path:
        return self.root / "control.sock"

    @property
    def http(self) -> Path:
        return self.root / "http.sock"

    @property
    def directory(self) -> Path:
        return self.root / "directory.sqlite"

    def vhost(self, number: int) -> Path:
        return self.root / "vhosts" / str(number)


class VHostDirectory:
    """Paths below one vhost's directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def name(self) -> Path:
        return self.root / "name"

    @property
    def definitions(self) -> Path:
        return self.root / "definitions.sqlite"

    @property
    def queues(self) -> Path:
        return self.root / "queues"

    @property
    def delayed(self) -> Path:
        return self.root / "delayed"

    @property
    def journal(self) -> Path:
        """What durable queues did and have not written to their place."""
        return self.root / "journal"

    @property
    def segments(self) -> Path:
        """What is known of segments that no longer change."""
        return self.root / "segments"

    @property
    def transient(self) -> Path:
        return self.root / "transient"

    @property
    def aside(self) -> Path:
        """Files that a backup still needs and the vhost does not; gone with it, or when the vhost opens again."""
        return self.root / "aside"

    @property
    def unsynced(self) -> Path:
        """A mark, which `shards/store/unsynced.py` sets and takes away."""
        return self.root / "unsynced"
