"""Lists over everything of one kind: which there are, in any order; and what there is to say about some of them.

Both are generators that yield an item or, after some work that led to none, None: whoever runs them may pause then.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from ipc.messages.inventory import Counted, Describe, Described, Item, Key, Kind, Place, Rank
from shards.inventory.clients import CHANNELS, CONNECTIONS, CONSUMERS
from shards.inventory.column import Gone, Register, key, within
from shards.inventory.exchanges import BINDINGS, EXCHANGES
from shards.inventory.ordering import ordering
from shards.inventory.queues import QUEUES
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

Steps: TypeAlias = Iterator[Item | None]

REGISTERS: Final[dict[Kind, Register]] = {
    "queue": QUEUES,
    "exchange": EXCHANGES,
    "binding": BINDINGS,
    "connection": CONNECTIONS,
    "channel": CHANNELS,
    "consumer": CONSUMERS,
}

_UNSORTED: Final[Key] = (0, 0)
_LOOK: Final = 32  # things looked at between two pauses


def rank(vhosts: VHosts, request: Rank) -> Steps:
    """Raises re.error for an expression that is none."""
    register = REGISTERS[request.kind]
    where = dict(request.where)
    is_meant = _filter(register, request)
    order = register.order(request.sort) if request.sort else None
    entries = ordering(request.count, is_descending=request.is_descending)
    total = found = 0
    for vhost in within(vhosts, request.vhost, request.vhosts):
        for thing in _things(register, vhost, where):
            total += 1
            if total % _LOOK == 0:
                yield None
            identity = register.identity(thing)
            if is_meant is not None and not is_meant(vhost, thing, identity):
                continue
            found += 1
            if entries.add((_UNSORTED if order is None else key(order(vhost, thing)), vhost.name, identity)):
                yield None
    yield Counted(total, found)
    for entry in entries.first():
        yield Place(*entry)


def describe(vhosts: VHosts, request: Describe) -> Steps:
    """In the order that was asked for, without what has gone."""
    register = REGISTERS[request.kind]
    for name, identity in request.places:
        vhost = vhosts.find(name)
        if vhost is None:
            continue
        try:
            thing = register.find(vhost, identity)
            document = register.document(vhost, thing, in_detail=request.in_detail)
            if request.in_detail and register.survey is not None:
                yield from register.survey(vhost, thing, document)
        except Gone:
            yield None
        else:
            yield Described(name, identity, document)


def _things(register: Register, vhost: VHost, where: Mapping[str, str]) -> Iterable[Any]:
    """All there are, or those of which `where` tells the way to."""
    return register.among(vhost, where) if where and register.among is not None else register.things(vhost)


def _filter(register: Register, request: Rank) -> Callable[..., bool] | None:
    """None where everything is meant."""
    if not request.name and not request.where:
        return None
    search = re.compile(request.name).search if request.use_regex else None
    part = request.name.casefold()

    def is_meant(vhost: object, thing: object, identity: tuple[str, ...]) -> bool:
        if search is not None and search(identity[-1]) is None:
            return False
        if search is None and part and part not in identity[-1].casefold():
            return False
        return all(register.value(vhost, thing, column) == value for column, value in request.where)  # type: ignore[arg-type]

    return is_meant
