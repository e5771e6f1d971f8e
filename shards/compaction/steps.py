"""What one bounded step of a pass says: so much came back, run this in a thread, these pages may go, or it failed."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

SEGMENT_PAGES: Final = "segment pages"
"""The kind of mapped and cached file pages; offered as `Cold`, within `release_bytes_max` of the pass."""


class Freed(NamedTuple):
    """`size_bytes` were given back, by a collection of this kind ("dict", "set", …) or as pages; 0: none were."""

    kind: str
    size_bytes: int


class Offload(NamedTuple):
    """Blocking work that the host runs in a worker thread before it resumes the pass.

    An OSError that leaves `work` is counted as a failure and the pass goes on; an owner that must know how its work
    ended keeps that where `work` can write it.
    """

    work: Callable[[], None]


class Cold(NamedTuple):
    """Pages of a file that nobody has used since `used_at`, in milliseconds of broker time: they may be given back.

    Whether they are is decided when all owners were asked. `release` does it then, in steps of its own, if they are
    still there and still cold.
    """

    used_at: int
    size_bytes: int
    release: "Callable[[], Iterator[Step]]"


class Failed(NamedTuple):
    """One collection stayed as it was, because there was no memory or no disk for the step; the pass goes on."""

    kind: str
    reason: str


Step: TypeAlias = Freed | Offload | Cold | Failed

LOOKED: Final = Freed("", 0)
"""Nothing was worth it here; yielded all the same, because looking takes time too."""
