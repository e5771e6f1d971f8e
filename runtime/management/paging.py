"""Which part of a list is asked for: RabbitMQ's `page`, `page_size`, `name`, `use_regex`, `sort`, `columns`."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from ipc.limits import LISTED_MAX
from ipc.messages.inventory import Document, Kind, Rank
from runtime.management.broker import Broker
from runtime.management.errors import ApiError, BadRequest

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 500


class Paging(Struct, frozen=True):
    """What a list's query string says."""

    page: int | None = None  # None: an array of everything
    page_size: int = PAGE_SIZE
    name: str = ""
    use_regex: bool = False
    sort: str = ""
    is_descending: bool = False
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Mapping[str, Any]) -> "Paging":
        """Raises BadRequest for values that are none."""
        page = number(query, "page", None, 1, None)
        return cls(
            page=page,
            page_size=number(query, "page_size", PAGE_SIZE, 1, PAGE_SIZE_MAX) or PAGE_SIZE,
            name=str(query.get("name", "")),
            use_regex=flag(query, "use_regex"),
            sort=str(query.get("sort", "")),
            is_descending=flag(query, "sort_reverse"),
            columns=tuple(filter(None, str(query.get("columns", "")).split(","))),
        )


def number(query: Mapping[str, Any], name: str, default: int | None, low: int, high: int | None) -> int | None:
    """A whole number of `low` to `high`. Raises BadRequest for what is none."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not str(text).isascii() or not str(text).isdigit() or int(text) < low or (high is not None and int(text) > high):
        most = f" to {high}" if high is not None else " or more"
        raise BadRequest(f"{name} must be a number of {low}{most}, and is {str(text)[:32]!r}")
    return int(text)


def flag(query: Mapping[str, Any], name: str) -> bool:
    text = str(query.get(name, "false")).casefold()
    if text not in ("true", "false", ""):
        raise BadRequest(f"{name} must be true or false, and is {text[:32]!r}")
    return text == "true"


async def listed(
    broker: Broker,
    kind: Kind,
    paging: Paging,
    *,
    vhost: str | None = None,
    vhosts: frozenset[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> Any:
    """The page that was asked for of what the shards have, or an array of everything."""
    rank = Rank(
        kind,
        vhost,
        vhosts,
        tuple((where or {}).items()),
        paging.name,
        paging.use_regex,
        paging.sort,
        paging.is_descending,
    )
    if paging.page is None:
        found = await broker.listing(rank)
        return [chosen(document, paging.columns) for document in found.documents]
    start = (paging.page - 1) * paging.page_size
    if start and start >= LISTED_MAX:
        raise BadRequest(f"page {paging.page} lies beyond the {LISTED_MAX} things a list has at most")
    found = await broker.listing(rank, start=start, count=paging.page_size)
    return page_of(found.documents, paging, total=found.total, found=found.found)


def paged(documents: Sequence[Document], paging: Paging) -> Any:
    """The same of what is at hand as a whole."""
    is_meant = _filter(paging)
    meant = [document for document in documents if is_meant(str(document.get("name", "")))]
    if paging.sort:
        meant.sort(key=lambda document: _sort_key(document, paging.sort), reverse=paging.is_descending)
    elif paging.is_descending:
        meant.reverse()
    if paging.page is None:
        return [chosen(document, paging.columns) for document in meant]
    start = (paging.page - 1) * paging.page_size
    shown = meant[start : start + paging.page_size]
    return page_of(shown, paging, total=len(documents), found=len(meant))


def _filter(paging: Paging) -> Callable[[str], bool]:
    """By name, as shards do it. Raises BadRequest for an expression that is none."""
    if not paging.use_regex:
        part = paging.name.casefold()
        return lambda name: part in name.casefold()
    try:
        search = re.compile(paging.name).search
    except (re.error, OverflowError, RecursionError) as fault:
        raise BadRequest(f"no regular expression: {fault}") from fault
    return lambda name: search(name) is not None


def page_of(documents: Sequence[Document], paging: Paging, *, total: int, found: int) -> Document:
    """Raises ApiError (400) where there is no such page."""
    pages = max(1, -(-found // paging.page_size))
    if paging.page is not None and paging.page > pages:
        told = f"page out of range, page: {paging.page} size: {paging.page_size}, len: {found}"
        raise ApiError(400, told, error="page_out_of_range")
    return {
        "filtered_count": found,
        "item_count": len(documents),
        "items": [chosen(document, paging.columns) for document in documents],
        "page": paging.page,
        "page_count": pages,
        "page_size": paging.page_size,
        "total_count": total,
    }


def chosen(document: Document, columns: Sequence[str]) -> Document:
    """Only these columns, dotted where they lie in another; without any named, all of it."""
    if not columns:
        return document
    kept: Document = {}
    for column in columns:
        source: Any = document
        target = kept
        *path, last = column.split(".")
        for name in path:
            source = source.get(name) if isinstance(source, dict) else None
            target = target.setdefault(name, {}) if isinstance(source, dict) else target
        if isinstance(source, dict) and last in source:
            target[last] = source[last]
    return kept


def _sort_key(document: Document, path: str) -> tuple[int, Any]:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, (bool, int, float)):
        return 1, value
    return (0, 0) if value is None else (2, str(value))
