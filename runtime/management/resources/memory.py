"""`/api/memory`: where memory goes and what compaction gave back, which no other broker tells."""

from typing import Any, Final

import msgspec
from litestar import get, post
from litestar.datastructures import State
from msgspec import Struct

from ipc.limits import ACCOUNT_NAMED_MAX, PASSES_REMEMBERED_MAX
from ipc.messages import control
from ipc.messages.control import LEVELS, LevelName
from ipc.messages.inventory import Document
from runtime.management import answers
from runtime.management.access import ADMINISTRATOR, MONITORING, ApiRequest, require
from runtime.management.bodies import read_body
from runtime.management.broker import Broker
from runtime.management.describing import gives, gives_all, query_number, query_text
from runtime.management.errors import BadRequest
from runtime.management.paging import number

_MONITOR: Final = [require(MONITORING)]
_TOP: Final = 10


class CompactBody(Struct, frozen=True):
    """How hard to try."""

    level: LevelName = "release"


def _documents(replies: list[control.ControlReply], kind: type[control.Reply]) -> list[Document]:
    found = [msgspec.to_builtins(reply) for reply in replies if isinstance(reply, kind)]
    for document in found:
        del document["say"]
    return found


def _incomplete(replies: list[control.ControlReply]) -> list[Document]:
    """Who did not answer."""
    ends = [reply for reply in replies if isinstance(reply, control.End)]
    return [msgspec.to_builtins(silent) for end in ends for silent in end.silent]


@get(
    "/memory",
    guards=_MONITOR,
    summary="What memory is used for",
    operation_class=gives(answers.Memory, query_number("top", high=ACCOUNT_NAMED_MAX), query_text("vhost")),
)
async def memory(request: ApiRequest, state: State) -> Document:
    """By process and kind, and the vhosts, queues and connections that hold most (`top`; of one `vhost` only)."""
    broker: Broker = state.broker
    query = request.query_params
    top = number(query, "top", _TOP, 0, ACCOUNT_NAMED_MAX) or 0
    replies = await broker.control(control.Memory(vhost=query.get("vhost") or None, top=top))
    largest: dict[str, list[Document]] = {}
    for page in _documents(replies, control.Largest):
        largest.setdefault(page["sort"], []).extend(page["held"])
    return {
        "shards": _documents(replies, control.ShardMemory),
        "processes": _documents(replies, control.ProcessMemory),
        "largest": largest,
        "silent": _incomplete(replies),
    }


@get(
    "/memory/dry-run",
    guards=_MONITOR,
    summary="What a pass would free",
    operation_class=gives(answers.DryRun, query_text("level", enum=list(LEVELS))),
)
async def dry_run(request: ApiRequest, state: State) -> Document:
    broker: Broker = state.broker
    level = request.query_params.get("level", "trim")
    if level not in LEVELS:
        raise BadRequest(f"level must be one of {', '.join(LEVELS)}, and is {level[:32]!r}")
    replies = await broker.control(control.DryRun(level))
    found = _documents(replies, control.Reclaimable)
    return {
        "shards": [document for document in found if document["role"] == "shard"],
        "processes": [document for document in found if document["role"] != "shard"],
        "silent": _incomplete(replies),
    }


@get(
    "/memory/passes",
    guards=_MONITOR,
    summary="The last passes, oldest first",
    operation_class=gives_all(answers.Pass, query_number("last", low=1, high=PASSES_REMEMBERED_MAX)),
)
async def passes(request: ApiRequest, state: State) -> list[Document]:
    last = number(request.query_params, "last", PASSES_REMEMBERED_MAX, 1, PASSES_REMEMBERED_MAX)
    return told(await state.broker.control(control.Passes(last or PASSES_REMEMBERED_MAX)))


@get("/memory/metrics", guards=_MONITOR, summary="Counters of passes, and how short memory is", operation_class=gives())
async def metrics(state: State) -> Document:
    (counters,) = _documents(await state.broker.control(control.Metrics()), control.Counters)
    return counters


@post(
    "/memory/compact",
    guards=[require(ADMINISTRATOR)],
    status_code=200,
    summary="Run a pass now",
    operation_class=gives(answers.Pass, body=CompactBody),
)
async def compact(request: ApiRequest, state: State) -> Document:
    """Answered when it is over, with what it gave back."""
    body = await read_body(request, CompactBody)
    replies = await state.broker.control(control.Compact(body.level))
    (done,) = told(replies)
    return {**done, "silent": _incomplete(replies)}


def told(replies: list[control.ControlReply]) -> list[Document]:
    """Each pass with what every process gave back in it."""
    found = {document["number"]: {**document, "reclaimed": []} for document in _documents(replies, control.Pass)}
    for reclaimed in _documents(replies, control.Reclaimed):
        if (done := found.get(reclaimed.pop("number"))) is not None:
            done["reclaimed"].append(reclaimed)
    return list(found.values())


MEMORY: Final[list[Any]] = [memory, dry_run, passes, metrics, compact]
