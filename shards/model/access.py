"""What one user may do in one vhost: regular expressions for names and topics, and a bounded memory of answers."""

import re
from functools import cached_property

from ipc.errors import AccessRefused
from ipc.limits import PERMISSION_ANSWERS_MAX
from ipc.messages.commands import Permissions
from shards.compaction.compactable import Compactable

_NOTHING = "(?!)"  # RabbitMQ's "^$" would let a name through that is nothing but a line feed


class Access(Compactable):
    """Checks `configure`, `write` and `read` on resource names; an empty expression denies (as RabbitMQ's does)."""

    CACHES = ("_answers", "_topic_answers")
    KIND = "permissions"

    def __init__(self, user: str, vhost: str, permissions: Permissions) -> None:
        self.user = user
        self.vhost = vhost
        self._permissions = permissions
        self._answers: dict[tuple[str, str], bool] = {}
        self._topic_answers: dict[tuple[str, str, str], bool] = {}

    @cached_property
    def _expressions(self) -> dict[str, re.Pattern[str]]:
        return {
            right: re.compile(expression or _NOTHING)
            for right, expression in (
                ("configure", self._permissions.configure),
                ("write", self._permissions.write),
                ("read", self._permissions.read),
            )
        }

    @cached_property
    def _topics(self) -> dict[tuple[str, str], re.Pattern[str]]:
        return {
            (right, topic.exchange): self._topic_pattern(expression)
            for topic in self._permissions.topics
            for right, expression in (("write", topic.write), ("read", topic.read))
        }

    def _topic_pattern(self, expression: str) -> re.Pattern[str]:
        # Escaped, which RabbitMQ does not do: there, a user who may choose the name ".*" may publish everything.
        for variable, value in (("{username}", self.user), ("{vhost}", self.vhost)):
            expression = expression.replace(variable, re.escape(value))
        try:
            return re.compile(expression or _NOTHING)
        except re.error:  # it was an expression before this name stood in it
            return re.compile(_NOTHING)

    @property
    def channels_max(self) -> int | None:
        """How many channels the user may have open in the vhost; None: any number."""
        return self._permissions.channels_max

    def change(self, permissions: Permissions) -> None:
        self._permissions = permissions
        self._answers = {}
        self._topic_answers = {}
        self.__dict__.pop("_expressions", None)
        self.__dict__.pop("_topics", None)

    def may(self, right: str, name: str) -> bool:
        answer = self._answers.get((right, name))
        if answer is None:
            if len(self._answers) >= PERMISSION_ANSWERS_MAX:
                self._answers = {}
            # The default exchange has no name; RabbitMQ checks it under this one.
            answer = self._expressions[right].search(name or "amq.default") is not None
            self._answers[right, name] = answer
        return answer

    def require(self, right: str, kind: str, name: str) -> None:
        """Raises AccessRefused (403) with RabbitMQ's words."""
        if not self.may(right, name):
            raise AccessRefused(
                f"{right} access to {kind} '{name}' in vhost '{self.vhost}' refused for user '{self.user}'"
            )

    def may_topic(self, right: str, exchange: str, routing_key: str) -> bool:
        """Whether a routing key may be used on a topic exchange; without an expression for that exchange any may."""
        answer = self._topic_answers.get((right, exchange, routing_key))
        if answer is None:
            if len(self._topic_answers) >= PERMISSION_ANSWERS_MAX:
                self._topic_answers = {}
            pattern = self._topics.get((right, exchange))
            answer = pattern is None or pattern.search(routing_key) is not None
            self._topic_answers[right, exchange, routing_key] = answer
        return answer

    def require_topic(self, right: str, exchange: str, routing_key: str) -> None:
        """Raises AccessRefused (403) with RabbitMQ's words."""
        if self._permissions.topics and not self.may_topic(right, exchange, routing_key):
            raise AccessRefused(
                f"{right} access to topic '{routing_key}' in exchange '{exchange}' in vhost '{self.vhost}' refused for "
                f"user '{self.user}'"
            )
