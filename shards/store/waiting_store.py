"""The store of messages that wait for a time of their own, which is what their records have for a timestamp."""

from shards.compaction.compactable import ShrinkPolicy
from shards.store.message_store import MessageStore
from shards.store.segment import Segment


class WaitingStore(MessageStore):
    """Its messages are handed out at once and settled when they are due, in any order, so segments last long."""

    __slots__ = ()

    def _is_cold(self, segment: Segment, policy: ShrinkPolicy) -> bool:
        # Its timestamps lie ahead and say nothing about that; each record is read once more, when it is due.
        return segment is not self._active and (segment.guard is None or segment.guard.may_release(policy.now))
