"""Lists over everything of one kind: which there are, in any order; and what there is to say about some of them.

Both are generators that yield an item or, after some work that led to none, None: whoever runs them may pause then.
Sorting is done in runs that are merged as they are read, so that no step of it takes long.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Final, TypeAlias

from ipc.messages.inventory import Counted, Describe, Described, Item, Kind, Place, Rank
from shards.inventory.clients import CHANNELS, CONNECTIONS, CONSUMERS
from shards.inventory.column import Gone, Register, key, within
from shards.inventory.exchanges import BINDINGS, EXCHANGES
from shards.inventory.queues import QUEUES
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

_ORDER: Final = attrgetter("order")
_RUN: Final = 256  # places sorted at once
_LOOK: Final = 32  # things looked at between two pauses


def rank(vhosts: VHosts, request: Rank) -> Steps:
    """Raises re.error for an expression that is none."""
    register = REGISTERS[request.kind]
    is_meant = _filter(register, request)
    runs: list[list[Place]] = []
    run: list[Place] = []
    total = 0
    for vhost in within(vhosts, request.vhost, request.vhosts):
        for thing in register.things(vhost):
            total += 1
            if total % _LOOK == 0:
                yield None
            identity = register.identity(thing)
            if not is_meant(vhost, thing, identity):
                continue
            sorted_by = key(register.value(vhost, thing, request.sort)) if request.sort else (0, 0)
            run.append(Place(sorted_by, vhost.name, identity))
            if len(run) == _RUN:
                run.sort(key=_ORDER, reverse=request.is_descending)
                runs.append(run)
                run = []
                yield None
    run.sort(key=_ORDER, reverse=request.is_descending)
    runs.append(run)
    yield Counted(total, sum(map(len, runs)))
    merged: Iterable[Place] = heapq.merge(*runs, key=_ORDER, reverse=request.is_descending)
    yield from islice(merged, request.count)


def describe(vhosts: VHosts, request: Describe) -> Steps:
    """In the order that was asked for, without what has gone."""
    register = REGISTERS[request.kind]
    for name, identity in request.places:
        vhost = vhosts.find(name)
        if vhost is None:
            continue
        try:
            thing = register.find(vhost, identity)
        except Gone:
            yield None
        else:
            yield Described(name, identity, register.document(vhost, thing, in_detail=request.in_detail))


def _filter(register: Register, request: Rank) -> Callable[..., bool]:
    search = re.compile(request.name).search if request.use_regex else None
    part = request.name.casefold()

    def is_meant(vhost: object, thing: object, identity: tuple[str, ...]) -> bool:
        if search is not None and search(identity[-1]) is None:
            return False
        if search is None and part and part not in identity[-1].casefold():
            return False
        return all(register.value(vhost, thing, column) == value for column, value in request.where)  # type: ignore[arg-type]

    return is_meant
