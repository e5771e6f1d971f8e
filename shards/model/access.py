"""What one user may do in one vhost: three regular expressions and a bounded memory of what they said."""

import re
from functools import cached_property

from ipc.errors import AccessRefused
from ipc.messages.commands import Permissions
from shards.compaction.compactable import Compactable

_ANSWERS_MAX = 256
_NOTHING = "(?!)"  # RabbitMQ's "^$" would let a name through that is nothing but a line feed


class Access(Compactable):
    """Checks `configure`, `write` and `read` on resource names; an empty expression denies (as RabbitMQ's does)."""

    CACHES = ("_answers",)

    def __init__(self, user: str, vhost: str, permissions: Permissions) -> None:
        self.user = user
        self.vhost = vhost
        self._permissions = permissions
        self._answers: dict[tuple[str, str], bool] = {}

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

    def change(self, permissions: Permissions) -> None:
        self._permissions = permissions
        self._answers = {}
        self.__dict__.pop("_expressions", None)

    def may(self, right: str, name: str) -> bool:
        answer = self._answers.get((right, name))
        if answer is None:
            if len(self._answers) >= _ANSWERS_MAX:
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
