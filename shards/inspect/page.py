"""An account of a data directory as a page for people."""

from collections.abc import Iterator

from ipc.table import shown, size, table
from shards.inspect.accounts import DirectoryAccount, StoreAccount, VHostAccount

STORES_SHOWN_MAX = 50
"""Of one vhost, those with most messages, unless all are asked for."""
LINES_SHOWN_MAX = 20
"""Of each kind of remark."""


def page(account: DirectoryAccount, *, shows_all: bool) -> str:
    return "\n".join(_lines(account, shows_all=shows_all))


def _lines(account: DirectoryAccount, *, shows_all: bool) -> Iterator[str]:
    yield f"{account.path}: {account.format}, {_counted(len(account.vhosts), 'vhost')}"
    if account.is_in_use:
        yield "a broker runs on it: what is told here is out of date already, and half-written things look torn"
    for vhost in account.vhosts:
        yield ""
        yield from _vhost(vhost, shows_all=shows_all)
    yield ""
    yield _verdict(account)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _verdict(account: DirectoryAccount) -> str:
    if account.is_damaged:
        return "DAMAGED, as told above"
    if account.is_verified:
        return "every checksum was compared, and nothing is damaged"
    return "nothing is wrong with what was looked at; --verify compares every checksum"


def _vhost(vhost: VHostAccount, *, shows_all: bool) -> Iterator[str]:
    file_bytes = sum(store.file_bytes for store in vhost.stores)
    queues = sum(store.kind == "queue" for store in vhost.stores)
    yield (
        f"vhost {shown(vhost.name)}  {vhost.directory}\n"
        f"  {_counted(queues, 'queue')}, {_counted(vhost.exchanges, 'exchange')}, "
        f"{_counted(vhost.bindings, 'binding')}; "
        f"{_counted(vhost.messages, 'message')} in {size(file_bytes)} of files"
    )
    if vhost.refusal:
        yield f"  CANNOT BE OPENED: {vhost.refusal}"
        return
    yield f"  {_end(vhost)}"
    if vhost.journal.files:
        journal = vhost.journal
        yield (
            f"  journal: {_counted(journal.files, 'file')}, {size(journal.file_bytes)}; what it says of "
            f"{_counted(journal.stores, 'queue')} the next start puts in its place"
        )
    stores = sorted((store for store in vhost.stores if _is_worth_a_line(store)), key=lambda store: -store.messages)
    if stores:
        yield ""
        yield _table(stores if shows_all else stores[:STORES_SHOWN_MAX])
    if len(stores) > STORES_SHOWN_MAX and not shows_all:
        yield f"  … and {len(stores) - STORES_SHOWN_MAX:,} more; --all shows them"
    empty = len(vhost.stores) - len(stores)
    if empty:
        yield f"  {empty:,} {'is' if empty == 1 else 'are'} empty"
    yield from _remarks(vhost, shows_all=shows_all)


def _end(vhost: VHostAccount) -> str:
    segments = sum(store.segments for store in vhost.stores)
    known = sum(store.segments_known for store in vhost.stores)
    end = "ended in order" if vhost.ended_in_order else "did not end in order"
    return f"{end}: the next start reads {segments - known:,} of {_counted(segments, 'segment')}"


def _is_worth_a_line(store: StoreAccount) -> bool:
    return bool(store.messages or store.segments or store.start or store.refusal)


def _table(stores: list[StoreAccount]) -> str:
    titles = ["  kind", "name", "number", "messages", "bodies", "settled", "segments", "files"]
    columns = "llrrrrrr"
    if any(store.levels for store in stores):
        titles.append("by priority")
        columns += "l"
    return table(columns, titles, (_row(store)[: len(columns)] for store in stores))


def _row(store: StoreAccount) -> list[str]:
    return [
        f"  {store.kind}",
        shown(store.name),
        str(store.number) if store.number else store.name,
        f"{store.messages:,}",
        size(store.message_bytes),
        f"{store.settled:,}",
        f"{store.segments:,}",
        size(store.file_bytes),
        ", ".join(f"{level}: {count:,}" for level, count in store.levels.items()),
    ]


def _remarks(vhost: VHostAccount, *, shows_all: bool) -> Iterator[str]:
    start = [f"{store.kind} {shown(store.name)}: {what}" for store in vhost.stores for what in store.start]
    start += [f"remove {path}: nothing names it" for path in vhost.orphans]
    refused = [f"{store.kind} {shown(store.name)}: {store.refusal}" for store in vhost.stores if store.refusal]
    damages = [
        f"{damage.file} at {damage.offset:,}, {damage.size_bytes:,} bytes: {damage.what}" for damage in vhost.damages
    ]
    for title, lines in (
        ("the next start will", start),
        ("kept by earlier starts, because it was damaged", vhost.set_aside),
        ("cannot be opened", refused),
        ("damaged", damages),
        ("what recovery makes of it", vhost.sentences),
    ):
        if lines:
            yield f"  {title}:"
            yield from (f"    {line}" for line in (lines if shows_all else lines[:LINES_SHOWN_MAX]))
        if len(lines) > LINES_SHOWN_MAX and not shows_all:
            yield f"    … and {len(lines) - LINES_SHOWN_MAX:,} more; --all shows them"
