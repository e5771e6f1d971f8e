"""What the supervisor may ask a shard, one function a question: the table below is all there is."""

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from ipc.limits import HOLDINGS_PER_PAGE
from ipc.messages.commands import AskMemory, AskReclaimable, AskStatus, BackUpVHost, PauseQueue, Question
from ipc.messages.reports import SORTS, Answer, Holdings, MemoryAccount, QueuePaused, ShardStatus, Unanswered

if TYPE_CHECKING:
    from shards.host.shard import Shard

_LOG: Final = structlog.get_logger("shard.answering")


async def answers(shard: "Shard", question: Question) -> Sequence[Answer]:
    """All there is to say to a question, in order, each small enough for a packet; the last one says that it is."""
    try:
        return await _ANSWERS[type(question)](shard, question)
    except Exception as fault:  # noqa: BLE001 - a question is not worth a shard
        _LOG.exception("question cannot be answered", question=type(question).__name__)
        return [Unanswered(question.number, shard.number, is_last=True, reason=str(fault) or type(fault).__name__)]


async def _status(shard: "Shard", question: AskStatus) -> Sequence[Answer]:
    vhosts = [shard.vhosts.find(name) for name in shard.vhosts.names()]
    return [
        ShardStatus(
            question.number,
            shard.number,
            is_last=True,
            vhosts=len(vhosts),
            queues=sum(vhost.queue_count for vhost in vhosts if vhost is not None),
            connections=shard.pump.connection_count,
            seconds=time.monotonic() - shard.started_at,
        )
    ]


async def _memory(shard: "Shard", question: AskMemory) -> Sequence[Answer]:
    drawn, age_seconds = await shard.accountant.account(question.vhost)
    account = drawn.account
    pages = [
        Holdings(question.number, shard.number, is_last=False, sort=sort, holdings=tuple(page))
        for sort in SORTS
        for page in _pages(account.largest(sort)[: question.top])
    ]
    total = MemoryAccount(
        question.number,
        shard.number,
        is_last=True,
        reading=drawn.reading,
        by_kind=account.by_kind,
        counts=account.counts,
        owners=account.owners,
        seconds=drawn.seconds,
        seconds_cpu=drawn.seconds_cpu,
        slice_seconds_longest=drawn.slice_seconds_longest,
        age_seconds=age_seconds,
    )
    return [*pages, total]


def _pages(holdings: Sequence[Any]) -> list[Sequence[Any]]:
    return [holdings[start : start + HOLDINGS_PER_PAGE] for start in range(0, len(holdings), HOLDINGS_PER_PAGE)]


async def _reclaimable(shard: "Shard", question: AskReclaimable) -> Sequence[Answer]:
    return [await shard.compactor.estimate(question, shard.settings.compaction, now=shard.clock())]


async def _pause(shard: "Shard", question: PauseQueue) -> Sequence[Answer]:
    vhost = shard.vhosts.find(question.vhost)
    queue = vhost.find_queue(question.queue) if vhost is not None else None
    if vhost is not None and queue is not None:
        vhost.pause_queue(queue, is_paused=question.is_paused)
        shard.bell.ring()
    return [QueuePaused(question.number, shard.number, is_last=True, is_found=queue is not None)]


async def _back_up(shard: "Shard", question: BackUpVHost) -> Sequence[Answer]:
    return [await shard.backups.back_up(question.number, question.vhost, Path(question.target))]


_ANSWERS: Final[dict[type[Question], Callable[["Shard", Any], Awaitable[Sequence[Answer]]]]] = {
    AskStatus: _status,
    AskMemory: _memory,
    AskReclaimable: _reclaimable,
    PauseQueue: _pause,
    BackUpVHost: _back_up,
}
QUESTIONS: Final = tuple(_ANSWERS)
