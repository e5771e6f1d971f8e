"""Limits so small that a few messages reach them: files rotate, tails are written back, bodies are large."""

from collections.abc import Iterator
from contextlib import contextmanager

from ipc.limits import KIB
from ipc.settings import StoreSettings
from shards.model import publication
from shards.protocols.amqp import intake
from shards.store import journal, message_store, register, segment, tail

STORE = StoreSettings(segment_bytes_max=8 * KIB)
LARGE_BYTES = 3 * KIB
TAIL_BYTES_KEPT_MAX = 2 * KIB
JOURNAL_FILES_MAX = 4
JOURNAL_SPARE_FILES_MAX = 2

_LIMITS = (
    (journal, "JOURNAL_FILE_BYTES_FIRST", 2 * KIB),
    (journal, "JOURNAL_FILE_BYTES_MAX", 8 * KIB),
    (journal, "JOURNAL_FILES_MAX", JOURNAL_FILES_MAX),
    (journal, "JOURNAL_SPARE_FILES_MAX", JOURNAL_SPARE_FILES_MAX),
    (journal, "JOURNAL_PAGE_WORTH_BYTES", 200),
    (register, "REGISTER_BYTES_MIN", 300),
    (register, "SEALED_MIN", 2),
    (message_store, "TAIL_BYTES_KEPT_MAX", TAIL_BYTES_KEPT_MAX),
    (tail, "TAIL_BYTES_MAX", 6 * KIB),
    (message_store, "RUN_BYTES_MIN", 1 * KIB),
    (segment, "SEGMENT_BYTES_FIRST", 2 * KIB),
    (publication, "LARGE_BODY_BYTES", LARGE_BYTES),
    (intake, "LARGE_BODY_BYTES", LARGE_BYTES),
)


@contextmanager
def small_limits() -> Iterator[None]:
    """While it lasts, everything in this process has them."""
    before = [getattr(module, name) for module, name, _ in _LIMITS]
    for module, name, limit in _LIMITS:
        setattr(module, name, limit)
    try:
        yield
    finally:
        for (module, name, _), limit in zip(_LIMITS, before, strict=True):
            setattr(module, name, limit)
