"""What a start found on disk: counted while stores recover, told once in the log; what is found later at once."""

from collections.abc import Callable

from msgspec import Struct, field

from ipc.limits import DAMAGES_REMEMBERED_MAX


class RecoveryReport(Struct):
    """Sums over all stores that were recovered with it."""

    messages: int = 0  # ready again
    bytes_cut: int = 0  # torn tails: written, but never to the end, so never confirmed
    acks_pruned: int = 0  # of messages that did not get to disk
    segments_damaged: int = 0  # what did not verify between blocks that did; the file is kept for a person to look at
    tell: Callable[[str], None] | None = None  # of damage that is found when the start is over
    damages: list[str] = field(default_factory=list)  # a sentence each, the first few

    @property
    def is_clean(self) -> bool:
        return not (self.bytes_cut or self.acks_pruned or self.segments_damaged)

    def damaged(self, sentence: str) -> None:
        self.segments_damaged += 1
        if len(self.damages) < DAMAGES_REMEMBERED_MAX:
            self.damages.append(sentence)
        if self.tell is not None:
            self.tell(sentence)
