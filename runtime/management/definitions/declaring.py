"""The part of a file that lies in one virtual host: exchanges, queues and bindings, declared as a client would.

What is there already stays as it is, whatever the file says about it, as in RabbitMQ. So a file can be imported twice.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct
from pamqp import commands

from ipc.limits import DEFINITIONS_REFUSALS_MAX, DEFINITIONS_SECONDS_MAX, DEFINITIONS_TOGETHER
from ipc.messages.commands import THE_BROKER
from ipc.messages.inventory import Document
from runtime.management.broker import Broker, Refused
from runtime.management.definitions.file import Binding, Content, Exchange, Problems, Queue
from runtime.management.inner_client import Wish, inner_client

PREDECLARED: Final = ("", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic")
"""Exchanges that every virtual host has."""

BINDING_KINDS: Final = ("queue", "exchange")
_encoder: Final = msgspec.json.Encoder(order="deterministic")


class _Step(Struct, frozen=True):
    """One declaration, where it stands in the file, and what undoes it."""

    where: str
    wish: Wish
    undoing: Wish


class Declarations:
    """What a file declares in one virtual host; remembers what it began, so that it can be undone."""

    def __init__(self, broker: Broker, vhost: str, content: Content) -> None:
        self._broker = broker
        self.vhost = vhost
        self._exchanges = [exchange for exchange in content.exchanges if exchange.vhost == vhost]
        self._queues = [queue for queue in content.queues if queue.vhost == vhost]
        self._bindings = [binding for binding in content.bindings if binding.vhost == vhost]
        self._begun: list[_Step] = []

    def __bool__(self) -> bool:
        return bool(self._exchanges or self._queues or self._bindings)

    async def check(self, problems: Problems, *, is_new: bool) -> list[_Step]:
        """What is to be done, after a look at what is there. Raises Unavailable."""
        exchanges = set(PREDECLARED) if is_new else await self._names("exchange")
        queues = set() if is_new else await self._names("queue")
        declared = {exchange.name for exchange in self._exchanges} | exchanges
        named = {queue.name for queue in self._queues} | queues
        steps: list[_Step | None] = [
            self._step(f"exchange '{exchange.name}' in vhost '{self.vhost}'", *_of_exchange(exchange), problems)
            for exchange in _first_of_each(self._exchanges)
            if exchange.name not in exchanges
        ]
        steps += [
            self._step(f"queue '{queue.name}' in vhost '{self.vhost}'", *_of_queue(queue), problems)
            for queue in _first_of_each(self._queues)
            if queue.name not in queues
        ]
        bound = set() if is_new or not self._bindings else await self._bound()
        for binding in self._bindings:
            where = _where(binding)
            complaint = _complaint(binding, declared, named)
            if complaint is not None:
                problems.add(where, complaint)
            elif binding.source and _key(binding) not in bound:
                bound.add(_key(binding))
                steps.append(self._step(where, *_of_binding(binding), problems))
        return [step for step in steps if step is not None]

    def _step(self, where: str, wish: Any, undoing: Any, problems: Problems) -> _Step | None:
        try:
            made = _Step(where, Wish.of(*wish[:2], **wish[2]), Wish.of(*undoing[:2], **undoing[2]))
        except Refused as refusal:
            problems.add(where, refusal.text)
            return None
        frame_max = self._broker.settings.amqp.frame_max
        if frame_max and max(len(made.wish.unanswered), len(made.undoing.unanswered)) > frame_max:
            problems.add(where, f"is larger than a frame of {frame_max} bytes")
            return None
        return made

    async def _names(self, kind: Any) -> set[str]:
        return {identity[0] for identity in await self._broker.identities(kind, self.vhost)}

    async def _bound(self) -> set[bytes]:
        identities = [each for each in await self._broker.identities("binding", self.vhost) if each[0]]
        return {_key_of(document) async for document in self._broker.described("binding", self.vhost, identities)}

    async def declare(self, steps: list[_Step], problems: Problems) -> None:
        """Go on after what is refused, so that all of it is known; what was begun is remembered. Raises Unavailable."""
        at = refusals = 0
        while at < len(steps) and refusals < DEFINITIONS_REFUSALS_MAX:
            try:
                async with self._client() as client:
                    while at < len(steps):
                        some = steps[at : at + DEFINITIONS_TOGETHER]
                        self._begun += some
                        await client.ask_all([step.wish for step in some])
                        at += len(some)
            except Refused:
                refusals += 1
                at += await self._find_refused(steps[at : at + DEFINITIONS_TOGETHER], problems)

    async def _find_refused(self, steps: list[_Step], problems: Problems) -> int:
        """Declare them one by one; how many there were, up to and with the one that is refused. Raises Unavailable."""
        asked = 0
        try:
            async with self._client() as client:
                for step in steps:
                    asked += 1
                    await client.ask_all([step.wish])
        except Refused as refused:
            problems.add(steps[asked - 1].where, refused.text)
        return asked

    async def undo(self) -> None:
        """Back to what was there before. Raises Refused and Unavailable."""
        undoings = [step.undoing for step in reversed(self._begun)]
        if undoings:
            async with self._client() as client:
                for begin in range(0, len(undoings), DEFINITIONS_TOGETHER):
                    await client.ask_all(undoings[begin : begin + DEFINITIONS_TOGETHER])

    def _client(self) -> Any:
        return inner_client(self._broker, THE_BROKER, self.vhost, seconds_max=DEFINITIONS_SECONDS_MAX, is_literal=True)


def _first_of_each(entries: Iterable[Any]) -> Iterable[Any]:
    """One of each name: the first counts, as what is there already does."""
    found: dict[str, Any] = {}
    for entry in entries:
        found.setdefault(entry.name, entry)
    return found.values()


def _of_exchange(exchange: Exchange) -> tuple[Any, Any]:
    fields = {
        "exchange": exchange.name,
        "exchange_type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": exchange.arguments,
    }
    return (
        (commands.Exchange.Declare, commands.Exchange.DeclareOk, fields),
        (commands.Exchange.Delete, commands.Exchange.DeleteOk, {"exchange": exchange.name}),
    )


def _of_queue(queue: Queue) -> tuple[Any, Any]:
    fields = {
        "queue": queue.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": queue.arguments,
    }
    return (
        (commands.Queue.Declare, commands.Queue.DeclareOk, fields),
        (commands.Queue.Delete, commands.Queue.DeleteOk, {"queue": queue.name}),
    )


def _of_binding(binding: Binding) -> tuple[Any, Any]:
    same = {"routing_key": binding.routing_key, "arguments": binding.arguments}
    if binding.destination_type == "queue":
        fields = {"exchange": binding.source, "queue": binding.destination, **same}
        return (
            (commands.Queue.Bind, commands.Queue.BindOk, fields),
            (commands.Queue.Unbind, commands.Queue.UnbindOk, fields),
        )
    fields = {"source": binding.source, "destination": binding.destination, **same}
    return (
        (commands.Exchange.Bind, commands.Exchange.BindOk, fields),
        (commands.Exchange.Unbind, commands.Exchange.UnbindOk, fields),
    )


def _where(binding: Binding) -> str:
    return (
        f"binding from '{binding.source}' to {binding.destination_type} '{binding.destination}' "
        f"by '{binding.routing_key}' in vhost '{binding.vhost}'"
    )


def _complaint(binding: Binding, exchanges: set[str], queues: set[str]) -> str | None:
    """What such a binding has not got."""
    if binding.destination_type not in BINDING_KINDS:
        return f"destination_type '{binding.destination_type}' is not one of {', '.join(BINDING_KINDS)}"
    if binding.source and binding.source not in exchanges:
        return f"no exchange '{binding.source}'"
    if binding.destination not in (queues if binding.destination_type == "queue" else exchanges):
        return f"no {binding.destination_type} '{binding.destination}'"
    return None


def _key(binding: Binding) -> bytes:
    return _encoder.encode(
        (binding.source, binding.destination_type, binding.destination, binding.routing_key, binding.arguments)
    )


def _key_of(document: Document) -> bytes:
    return _encoder.encode(
        (
            document["source"],
            document["destination_type"],
            document["destination"],
            document["routing_key"],
            document["arguments"],
        )
    )
