"""What a channel has delivered and not heard of again: three parallel typed arrays, 20 bytes a delivery.

When that was is kept once a second, as the first tag of that second.

```
index       0 … head-1 │ head …
tag    u64  gone       │ ascending; deliveries without acknowledgement leave gaps in the numbers, not entries
position u64           │ in the queue's store
source u32             │ who took it (channel's number of a consumer or of a getter); 0: settled out of order
```
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from shards.compaction.compactable import Compactable
from shards.store.columns import add_sequence, count_matching, is_uniform
from shards.store.half_done import no_way_back

_HEAD_MIN: Final = 1024  # entries before the settled front is worth moving the rest for
_MARK_MS: Final = 1000


class Outstanding(NamedTuple):
    """One delivery; `source` is 0 when it is settled, and `since` may be a second too early."""

    tag: int
    position: int
    source: int
    since: int


class Ledger(Compactable):
    """Unacknowledged deliveries of one channel, in order of their tags."""

    __slots__ = ("_count", "_head", "_marked_at", "_marked_tags", "_positions", "_sources", "_tags", "tag_next")
    COLLECTIONS = ("_marked_at", "_marked_tags", "_tags", "_positions", "_sources")
    KIND = "unacknowledged"

    def __init__(self) -> None:
        self.tag_next = 1
        self._tags: array[int] = array("Q")
        self._positions: array[int] = array("Q")
        self._sources: array[int] = array("I")
        self._marked_tags: array[int] = array("Q")  # the first tag of each second in which anything was delivered
        self._marked_at: array[int] = array("Q")  # and when that was, in broker time
        self._head = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, source: int, positions: "array[int]", now: int) -> None:
        """Deliveries with the next tags, in order, await acknowledgement."""
        count = len(positions)
        first = self.tag_next
        tag_next, total = first + count, self._count + count
        if not self._marked_at or now - self._marked_at[-1] >= _MARK_MS:
            self._mark(first, now)
        try:
            add_sequence(self._tags, first, count)
            self._positions.extend(positions)
            self._sources.extend(array("I", (source,)) * count)
        except MemoryError:
            # The columns stay as long as each other, or the client that is closed for this could give nothing back.
            kept = len(self._sources)
            del self._tags[kept:], self._positions[kept:]
            raise
        self.tag_next, self._count = tag_next, total

    def _mark(self, tag: int, now: int) -> None:
        """Remember when; and forget it of what is settled."""
        oldest = self._tags[self._head] if self._count else tag
        passed = bisect_right(self._marked_tags, oldest) - 1
        if passed > 0:
            del self._marked_tags[:passed], self._marked_at[:passed]
        self._marked_tags.append(tag)
        try:
            self._marked_at.append(now)
        except MemoryError:
            del self._marked_tags[-1]
            raise

    def waiting_since(self, source: int) -> int:
        """When the oldest outstanding delivery of this source was made, or up to a second later; 0: there is none."""
        try:
            index = self._sources.index(source, self._head)
        except ValueError:
            return 0
        return self._marked_at[bisect_right(self._marked_tags, self._tags[index]) - 1] + _MARK_MS

    def outstanding(self, after: int, count_max: int) -> list[Outstanding]:
        """Deliveries with tags beyond `after`, in order, as many as there are among the next `count_max` entries."""
        index = bisect_right(self._tags, after, self._head)
        return [
            Outstanding(tag, position, source, self._marked_at[bisect_right(self._marked_tags, tag) - 1])
            for tag, position, source in zip(
                self._tags[index : index + count_max],
                self._positions[index : index + count_max],
                self._sources[index : index + count_max],
                strict=True,
            )
        ]

    def skip(self, count: int) -> None:
        """The next tags went to a consumer that does not acknowledge."""
        self.tag_next += count

    def take(self, tag: int, *, multiple: bool) -> "list[tuple[int, array[int]]] | None":
        """Remove one delivery, or all up to and including `tag` (0: all there are), as (source, positions) runs.

        None when the tag is not outstanding.
        """
        if multiple and tag == 0:
            return self._take_front(len(self._tags))
        index = bisect_left(self._tags, tag, self._head)
        if index == len(self._tags) or self._tags[index] != tag or not self._sources[index]:
            return None
        if multiple or index == self._head:
            return self._take_front(index + 1)
        runs = [(self._sources[index], self._positions[index : index + 1])]
        with no_way_back:
            self._sources[index] = 0
            self._count -= 1
            if len(self._tags) - self._head > 2 * self._count + _HEAD_MIN:
                self._close_holes()
        return runs

    def tags(self, tag: int, *, multiple: bool) -> "array[int] | None":
        """What `take` would remove, by tags; None when the tag is not outstanding."""
        first, end = self._head, len(self._tags)
        if tag or not multiple:
            index = bisect_left(self._tags, tag, self._head)
            if index == len(self._tags) or self._tags[index] != tag or not self._sources[index]:
                return None
            first, end = (first if multiple else index), index + 1
        return array("Q", (self._tags[index] for index in range(first, end) if self._sources[index]))

    def take_each(self, tags: "array[int]", index: int) -> "tuple[int, list[tuple[int, array[int]]]]":
        """Remove `tags[index:]` as far as they are outstanding one after the other: how many, and the runs.

        0 and nothing when the first of them is not outstanding.
        """
        count = count_matching(tags, index, self._tags, self._sources, self._head)
        if count:
            return count, self._take_front(self._head + count)
        runs = self.take(tags[index], multiple=False)
        return (1, runs) if runs is not None else (0, [])

    def take_all(self) -> "list[tuple[int, array[int]]]":
        return self._take_front(len(self._tags))

    def _take_front(self, end: int) -> "list[tuple[int, array[int]]]":
        head = self._head
        if head < end and self._sources[head] and is_uniform(self._sources, head, end):
            runs = [(self._sources[head], self._positions[head:end])]
        else:
            runs = _runs(self._sources[head:end], self._positions[head:end])
        count = sum(len(positions) for _, positions in runs)
        with no_way_back:
            self._count -= count
            self._head = end
            self._drop_settled_front()
        return runs

    def _drop_settled_front(self) -> None:
        length = len(self._tags)
        while self._head < length and not self._sources[self._head]:
            self._head += 1
        if self._head == length or (self._head >= _HEAD_MIN and self._head * 2 >= length):
            del self._tags[: self._head], self._positions[: self._head], self._sources[: self._head]
            self._head = 0

    def _close_holes(self) -> None:
        # One delivery nobody settles must not make the ledger remember all that came after it.
        try:
            live = [index for index in range(self._head, len(self._tags)) if self._sources[index]]
            tags = array("Q", (self._tags[index] for index in live))
            positions = array("Q", (self._positions[index] for index in live))
            sources = array("I", (self._sources[index] for index in live))
        except MemoryError:
            return  # not now
        self._tags, self._positions, self._sources = tags, positions, sources
        self._head = 0


def _runs(sources: "array[int]", positions: "array[int]") -> "list[tuple[int, array[int]]]":
    runs: dict[int, array[int]] = {}
    for source, position in zip(sources, positions, strict=True):
        if source:
            runs.setdefault(source, array("Q")).append(position)
    return list(runs.items())
