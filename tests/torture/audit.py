"""Looks at everything in a vhost when its clients have gone: what is in each queue, and whether all counts agree."""

from collections.abc import Mapping, Sequence
from itertools import count
from random import Random
from typing import Final

from pamqp import commands

from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.torture.line import DELIVER, Heard, Line, method_frame
from tests.torture.queues import BINDINGS, GRAVES, LIMITED, QUEUES

_DRAINED_ALWAYS: Final = frozenset((GRAVES, LIMITED))  # to look at messages of the latter counts as a return
_DRAINED_SHARE: Final = 0.4


class Auditor(Line):
    """A client of its own; `faults` are counts that contradict each other."""

    def __init__(self, broker: RunningBroker, vhost: str) -> None:
        super().__init__(broker.port, vhost)
        self.faults: list[str] = []
        self._channels = count(2)
        self.open_channel(1)

    def declare_all(self) -> None:
        for queue, arguments in QUEUES.items():
            self.declare(queue, durable=True, arguments=dict(arguments))
        for exchange, queue, key in BINDINGS:
            self.call(commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key), commands.Queue.BindOk)

    def everything(self, random: Random) -> tuple[Mapping[str, Sequence[bytes]], list[str]]:
        """The bodies in each queue, in order, and the names of those that are empty from now on."""
        eventually(self._is_alone, "the end of all consumers")
        drained = [queue for queue in QUEUES if queue in _DRAINED_ALWAYS or random.random() < _DRAINED_SHARE]
        return {queue: self._bodies(queue, drains=queue in drained) for queue in QUEUES}, drained

    def exists(self, queue: str) -> bool:
        channel = next(self._channels)
        self.open_channel(channel)
        self.send_bytes(method_frame(channel, commands.Queue.Declare(queue=queue, passive=True)))
        _channel, answer = self.next_frame()
        return isinstance(answer, commands.Queue.DeclareOk)

    def _is_alone(self) -> bool:
        return not any(self._counts(queue)[1] for queue in QUEUES)

    def _counts(self, queue: str) -> tuple[int, int]:
        """Messages and consumers."""
        declared = self.declare(queue, passive=True)
        return declared.message_count or 0, declared.consumer_count or 0

    def _bodies(self, queue: str, *, drains: bool) -> list[bytes]:
        depth = self._counts(queue)[0]
        bodies = self._consume(queue, depth)
        left = self._counts(queue)[0]
        if len(bodies) != depth or left:
            self.faults.append(f"{queue}: {depth} messages were announced, {len(bodies)} came, then {left} were left")
        if drains and bodies:
            self.send(commands.Basic.Ack(0, True), 1)
        else:
            self.call(commands.Basic.Recover(True), commands.Basic.RecoverOk)
        expected = 0 if drains else len(bodies)
        if (after := self._counts(queue)[0]) != expected:
            self.faults.append(f"{queue}: {after} messages afterwards, expected {expected}")
        return bodies

    def _consume(self, queue: str, depth: int) -> list[bytes]:
        heard: list[Heard] = self.ask(
            method_frame(1, commands.Basic.Consume(queue=queue, consumer_tag="auditor")),
            commands.Basic.ConsumeOk.index,
        )
        while sum(one.method == DELIVER for one in heard) < depth:
            self._receive()
            heard += self._whole()
        heard += self.ask(method_frame(1, commands.Basic.Cancel(consumer_tag="auditor")), commands.Basic.CancelOk.index)
        return [one.body for one in heard if one.method == DELIVER]
