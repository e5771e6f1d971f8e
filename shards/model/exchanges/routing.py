"""Where a message goes in the end: through exchanges bound to exchanges, and on to alternates where nothing matches.

```
publish → exchange ─ delays ─── nowhere, until later       if the message asks for it
                   ─ matches ─┬─ queue                      each once
                              └─ exchange ─ …               each once, so that loops end
                   ─ nothing ─── alternate exchange ─ …     if there is one of that name
```
As in RabbitMQ it is the exchange's own bindings that count: one bound to an exchange that leads nowhere has matched.
"""

from collections.abc import Callable, Sequence

from shards.model.bindings import Destination
from shards.model.exchanges.exchange import Exchange, Headers
from shards.model.queues.queue import Queue


def route(
    exchange: Exchange,
    keys: Sequence[str],
    headers: Headers,
    properties: Headers,
    find_exchange: Callable[[str], Exchange | None],
    is_held: Callable[[Exchange], bool],
) -> tuple[list[Queue], bool]:
    """The queues a message with these routing keys goes to, each once; and whether exchange and keys alone decided.

    `is_held` is asked at each exchange that delays whether the message is to wait there.
    """
    found: dict[Queue, None] = {}
    visited = {exchange}
    pending = [exchange]
    by_key = True
    while pending:
        source = pending.pop()
        by_key = by_key and source.routes_by_key and not source.delays
        if source.delays and is_held(source):
            continue
        table = properties if source.reads_properties else headers
        for destination in _matches(source, keys, table) or _alternates(source, find_exchange):
            if isinstance(destination, Queue):
                found[destination] = None
            elif destination not in visited:
                visited.add(destination)
                pending.append(destination)
    return list(found), by_key


def never_held(_exchange: Exchange) -> bool:
    """Of a message that waits nowhere, whatever it asks for."""
    return False


def _matches(exchange: Exchange, keys: Sequence[str], table: Headers) -> list[Destination]:
    if len(keys) == 1 or not exchange.heeds_every_key:
        return list(exchange.match(keys[0], table))
    return [destination for key in keys for destination in exchange.match(key, table)]


def _alternates(exchange: Exchange, find_exchange: Callable[[str], Exchange | None]) -> list[Destination]:
    alternate = None if exchange.alternate is None else find_exchange(exchange.alternate)
    return [] if alternate is None else [alternate]
