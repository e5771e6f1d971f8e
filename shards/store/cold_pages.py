"""Pages of segments that nobody uses: offered to a compaction pass, and given back when it comes to the coldest.

Never those of the segment that is written or read.
"""

from collections.abc import Iterator
from functools import partial

from ipc.limits import COLLECTIONS_PER_STEP
from shards.compaction.compactable import LOOKED, SEGMENT_PAGES, Cold, Freed, Offload, ShrinkPolicy, Step
from shards.store.reader import Reader
from shards.store.segment import Segment
from shards.store.segments import Segments


def offer_cold(segments: Segments, reader: Reader, policy: ShrinkPolicy) -> Iterator[Step]:
    """All of one store that are cold at this moment."""
    for looked, number in enumerate(list(segments.by_number), 1):
        segment = segments.by_number.get(number)
        if segment is not None and _is_cold(segment, segments, reader, policy):
            yield Cold(segment.used_at, segment.size, partial(_release, segment, segments, reader, policy))
        elif looked % COLLECTIONS_PER_STEP == 0:
            yield LOOKED


def _release(segment: Segment, segments: Segments, reader: Reader, policy: ShrinkPolicy) -> Iterator[Step]:
    # Since it was offered anything may have happened to it.
    if not _is_cold(segment, segments, reader, policy):
        return
    if not policy.is_dry:
        work = segments.files.release(segment.path)
        # Who reads it while the thread is at it will have it come back.
        segment.released(policy.now)
        yield Offload(work)
        if segments.by_number.get(segment.number) is not segment or not segment.is_released:
            return
    yield Freed(SEGMENT_PAGES, segment.size)


def _is_cold(segment: Segment, segments: Segments, reader: Reader, policy: ShrinkPolicy) -> bool:
    return (
        segments.by_number.get(segment.number) is segment
        and segment is not segments.active
        and segment.number != reader.position >> 32
        and segment.used_at <= policy.cold_before
        and (segment.guard is None or segment.guard.may_release(policy.now))
    )
