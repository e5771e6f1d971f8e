"""Messages that leave a queue without having been consumed: told what happened to them, and published again.

The header table gets `x-death`, one entry for each queue and reason with a count, the latest first, as RabbitMQ builds
it (`rabbit_dead_letter.erl`); `x-first-death-…` remember the first. Everything else keeps its bytes, but for the
expiration that has done its work.
"""

from collections.abc import Iterable
from typing import Final

from ipc.wire.amqp import amending
from ipc.wire.amqp.amending import EXPIRATION, HEADERS
from shards.store.record import Record

EXPIRED: Final = "expired"
MAXLEN: Final = "maxlen"
REJECTED: Final = "rejected"
DELIVERY_LIMIT: Final = "delivery_limit"

DEATH: Final = "x-death"
CARBON_COPIES: Final = "CC"

Deaths = list[dict[str, bytes]]
"""The entries of `x-death`: kind and value of their fields."""


class Death:
    """One message on its way from a queue to its dead letter exchange."""

    def __init__(self, record: Record, queue: str, reason: str, now: int) -> None:
        self._parts = amending.take_apart(record.header)
        self._fields = amending.fields_of(self._parts.pop(HEADERS, b""))
        self._body_bytes = len(record.body)
        copies = map(amending.text_of, amending.elements_of(self._fields.get(CARBON_COPIES, b"")))
        self.routing_keys = [record.routing_key, *copies]
        self.deaths = self._bury(queue, record.exchange, self.routing_keys, reason, now)

    @property
    def header(self) -> bytes:
        """The content header to publish it with."""
        fields = self._fields | {DEATH: amending.array(map(amending.table, self.deaths))}
        return amending.put_together(self._body_bytes, self._parts | {HEADERS: amending.table_of(fields)})

    def leads_in_circles(self, queue: str) -> bool:
        """Whether it has been in this queue before and nobody rejected it since: it would come back for ever."""
        for death in self.deaths:
            if amending.text_of(death.get("reason", b"")) == REJECTED:
                return False
            if amending.text_of(death.get("queue", b"")) == queue:
                return True
        return False

    def forget_carbon_copies(self) -> None:
        """It goes another way than the one its publisher chose."""
        self._fields.pop(CARBON_COPIES, None)

    def _bury(self, queue: str, exchange: str, routing_keys: Iterable[str], reason: str, now: int) -> Deaths:
        expiration = self._parts.pop(EXPIRATION, b"")
        entry = {
            "count": amending.number(1),
            "reason": amending.text(reason),
            "queue": amending.text(queue),
            "time": amending.moment(now),
            "exchange": amending.text(exchange),
            "routing-keys": amending.array(map(amending.text, routing_keys)),
        }
        if expiration:
            entry["original-expiration"] = amending.text(str(expiration[1:], "ascii", "replace"))
        for name, value in (("reason", reason), ("queue", queue), ("exchange", exchange)):
            self._fields.setdefault(f"x-first-death-{name}", amending.text(value))
        others = []
        for death in _deaths_in(self._fields.pop(DEATH, b"")):
            if _is_same(death, entry):
                entry = death | {"count": amending.number(amending.number_of(death.get("count", b"")) + 1)}
            else:
                others.append(death)
        return [entry, *others]


def _deaths_in(value: bytes) -> Deaths:
    return [amending.fields_of(element[1:]) for element in amending.elements_of(value) if element[:1] == b"F"]


def _is_same(one: dict[str, bytes], other: dict[str, bytes]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("queue", "reason"))
