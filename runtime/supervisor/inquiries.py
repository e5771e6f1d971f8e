"""Questions to all shards at once: who answers in time is heard, and who does not is named."""

from collections import Counter
from collections.abc import Callable, Collection

import trio
from msgspec import Struct

from ipc.limits import QUESTIONS_OWED_MAX, SHARD_ANSWER_SECONDS_MAX
from ipc.link import LinkClosed
from ipc.messages.commands import Question
from ipc.messages.reports import Answer, Unanswered
from runtime.owner import Owner
from runtime.roster import ShardLink

Links = Callable[[], list[tuple[int, ShardLink]]]
"""Number and link of each shard that lives."""


class Gathered(Struct, frozen=True):
    """All answers in order of their coming, also those of a shard that did not finish; and who is missing, and why."""

    answers: list[Answer]
    silent: dict[int, str]


class _Inquiry:
    def __init__(self, silent: dict[int, str]) -> None:
        self.answers: list[Answer] = []
        self.silent = silent
        self.awaited: set[int] = set()
        self.is_over = trio.Event()

    def no_longer_awaits(self, shard: int) -> None:
        self.awaited.discard(shard)
        if not self.awaited:
            self.is_over.set()


class Inquiries(Owner):
    """All questions that are open."""

    COLLECTIONS = ("_open",)

    def __init__(self, links: Links, shards: int) -> None:
        """`shards`: how many there should be."""
        self._links = links
        self._shards = shards
        self._number = 0
        self._open: dict[int, _Inquiry] = {}
        self._owed: Counter[int] = Counter()  # questions each shard has yet to answer, late ones included

    async def ask(
        self,
        question: Callable[[int], Question],
        *,
        seconds: float = SHARD_ANSWER_SECONDS_MAX,
        among: Collection[int] | None = None,
    ) -> Gathered:
        """Ask shards `question(number)`, all or those `among`; returns when they have answered, or after `seconds`."""
        self._number += 1
        number = self._number
        asked = range(self._shards) if among is None else among
        inquiry = _Inquiry(dict.fromkeys(asked, "it is not running"))
        links = [
            (shard, link) for shard, link in self._links() if shard in asked and self._may_be_asked(shard, inquiry)
        ]
        inquiry.awaited.update(shard for shard, _link in links)
        self._open[number] = inquiry
        try:
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for one, link in links:
                        inquiry.silent[one] = f"it did not answer within {seconds:g} seconds"
                        nursery.start_soon(self._send, inquiry, one, link, question(number))
                    if links:
                        await inquiry.is_over.wait()
        finally:
            del self._open[number]
        return Gathered(inquiry.answers, inquiry.silent)

    def heard(self, answer: Answer) -> None:
        """An answer came, maybe to nobody any more."""
        if answer.is_last:
            self._owed[answer.shard] -= 1
        inquiry = self._open.get(answer.number)
        if inquiry is None:
            return
        if isinstance(answer, Unanswered):
            inquiry.silent[answer.shard] = f"it has a defect: {answer.reason}"
        else:
            inquiry.answers.append(answer)
            if answer.is_last:
                inquiry.silent.pop(answer.shard, None)
        if answer.is_last:
            inquiry.no_longer_awaits(answer.shard)

    def lost(self, shard: int) -> None:
        """A shard died; it will answer nothing."""
        del self._owed[shard]
        for inquiry in self._open.values():
            if shard in inquiry.awaited:
                inquiry.silent[shard] = "it ended before it had answered"
                inquiry.no_longer_awaits(shard)

    def _may_be_asked(self, shard: int, inquiry: _Inquiry) -> bool:
        if self._owed[shard] < QUESTIONS_OWED_MAX:
            return True
        inquiry.silent[shard] = f"it owes {self._owed[shard]} answers already"
        return False

    async def _send(self, inquiry: _Inquiry, shard: int, link: ShardLink, question: Question) -> None:
        try:
            await link.send(question)
        except LinkClosed:
            inquiry.silent[shard] = "it is not running"
            inquiry.no_longer_awaits(shard)
        else:
            self._owed[shard] += 1
