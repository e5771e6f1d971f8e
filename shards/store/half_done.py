"""What ends a shard, because a change was begun that can be neither finished nor taken back."""

from types import TracebackType
from typing import Final


class HalfDone(BaseException):
    """There was no memory to finish a change that cannot be taken back.

    A written block that is still in the tail would be written twice, half an entry would make a journal's block
    unreadable, a delivery that has left its ledger and not come back would be out for ever. What is on disk is whole,
    and is what the shard begins again with. No `Exception`, so that nobody takes it for the fault of the client during
    whose input it happened, and goes on.
    """


class _NoWayBack:
    __slots__ = ()

    def __enter__(self) -> None:
        """From here on all has to be done."""

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        if kind is MemoryError:
            raise HalfDone from fault


no_way_back: Final = _NoWayBack()
"""`with no_way_back:` around what is to be finished once it has begun: a MemoryError in there is HalfDone.

To enter a `with` takes memory, too: where the change has begun before it, it has to be `try` and `except`.
"""
