"""A queue with terms against a list that follows the same rules naively, whatever is done to both in whatever order."""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pamqp import commands

from tests.protocols.conversation import Client, World


class Message(NamedTuple):
    """Sorted as a queue hands them out."""

    urgency: int  # the lower the more urgent; 0 for all of a queue without priorities
    number: int
    expires_at: int | None


class QueueAgainstList(RuleBasedStateMachine):
    """`ready` is in order of urgency and age; messages leave at the head only, or at the head of those as urgent."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.world = World(self.directory)
        self.client: Client = self.world.client().open()
        self.ready: list[Message] = []
        self.held: dict[int, Message] = {}  # by delivery tag
        self.returns: dict[int, int] = {}
        self.published = 0

    @initialize(
        ttl=st.none() | st.integers(0, 3000),
        length_max=st.none() | st.integers(0, 6),
        delivery_limit=st.none() | st.integers(0, 2),
        priority_max=st.none() | st.integers(1, 3),
    )
    def declare(
        self, ttl: int | None, length_max: int | None, delivery_limit: int | None, priority_max: int | None
    ) -> None:
        self.ttl, self.length_max, self.delivery_limit = ttl, length_max, delivery_limit
        self.priority_max = priority_max or 0
        terms = {
            "x-message-ttl": ttl,
            "x-max-length": length_max,
            "x-delivery-limit": delivery_limit,
            "x-max-priority": priority_max,
        }
        self.arguments = {name: value for name, value in terms.items() if value is not None}
        self.client.declare("q", durable=True, arguments=self.arguments)

    @rule(
        count=st.integers(1, 5),
        expiration=st.none() | st.integers(0, 3000),
        priority=st.integers(0, 4),
    )
    def publish(self, count: int, expiration: int | None, priority: int) -> None:
        ttls = [ttl for ttl in (self.ttl, expiration) if ttl is not None]
        for _ in range(count):
            properties = commands.Basic.Properties(
                expiration=None if expiration is None else str(expiration), priority=priority, delivery_mode=2
            )
            self.client.publish("", "q", b"%d" % self.published, properties=properties)
            expires_at = self.world.now + min(ttls) if ttls else None
            self.ready.append(Message(-min(priority, self.priority_max), self.published, expires_at))
            self.ready.sort()
            self.published += 1
            self.tidy()

    @rule()
    def get(self) -> None:
        self.tidy()
        expected = self.ready.pop(0) if self.ready else None
        message = self.client.get("q", acks=True)
        assert (None if message is None else int(message.body)) == (None if expected is None else expected.number)
        if message is not None and expected is not None:
            self.held[message.method.delivery_tag] = expected

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.held)))
        self.client.ack(tag)
        del self.held[tag]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.held)))
        self.client.nack(tag)
        self.come_back(self.held.pop(tag))
        self.tidy()

    def come_back(self, message: Message) -> None:
        self.returns[message.number] = self.returns.get(message.number, 0) + 1
        if self.delivery_limit is None or self.returns[message.number] <= self.delivery_limit:
            self.ready = sorted([*self.ready, message])

    @rule()
    def restart(self) -> None:
        """Whoever held a message is gone, and what it held comes back, which counts."""
        now = self.world.now
        self.world = self.world.restart()
        self.world.now = now
        self.client = self.world.client().open()
        for message in self.held.values():
            self.come_back(message)
        self.held = {}
        self.ready.sort()
        self.tidy()

    @rule(milliseconds=st.integers(1, 2000))
    def wait(self, milliseconds: int) -> None:
        self.world.advance(milliseconds)
        self.tidy()

    @rule()
    def purge(self) -> None:
        self.client.ask(commands.Queue.Purge(queue="q"))
        self.ready = []

    def tidy(self) -> None:
        """Heads that are too old go, then heads that are too many, and so on."""
        for urgency in {message.urgency for message in self.ready}:
            while (head := self.head_of(urgency)) is not None and self.is_over(head):
                self.ready.remove(head)
        if self.length_max is not None and len(self.ready) > self.length_max:
            del self.ready[: len(self.ready) - self.length_max]
            self.tidy()

    def head_of(self, urgency: int) -> Message | None:
        return next((message for message in self.ready if message.urgency == urgency), None)

    def is_over(self, message: Message) -> bool:
        return message.expires_at is not None and message.expires_at <= self.world.now

    @invariant()
    def nobody_was_refused(self) -> None:
        assert self.client.replies() == []

    def teardown(self) -> None:
        while self.ready:
            self.get()
        assert self.client.get("q") is None
        self.world.close()
        shutil.rmtree(self.directory)


TestQueueAgainstList = QueueAgainstList.TestCase
TestQueueAgainstList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
