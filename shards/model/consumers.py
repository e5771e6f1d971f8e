"""Who takes messages from a queue: a consumer of some protocol, as the queue sees it."""

from typing import TYPE_CHECKING

from shards.compaction.compactable import Compactable

if TYPE_CHECKING:
    from shards.model.queues.queue import Queue


class Consumer(Compactable):
    """A subscription to one queue; a protocol says what taking a message means."""

    __slots__ = ("is_exclusive", "is_waiting", "priority", "queue", "tag")

    def __init__(self, queue: "Queue", tag: str, *, is_exclusive: bool, priority: int = 0) -> None:
        """Those of a lower `priority` get messages only while all of a higher one have no room."""
        self.queue = queue
        self.tag = tag
        self.is_exclusive = is_exclusive
        self.priority = priority
        self.is_waiting = False  # whether the queue counts on us: only while there was room at the last look

    def room(self) -> int:
        """How many messages can be taken right now."""
        raise NotImplementedError

    def take(self, count: int) -> int:
        """Take up to `count` ready messages from `self.queue.store`; how many it were."""
        raise NotImplementedError

    def terms_changed(self, now: int) -> None:
        """Other terms hold for the queue, in what concerns its consumers."""

    def queue_deleted(self) -> None:
        """The queue is gone, and the subscription with it."""
        raise NotImplementedError
