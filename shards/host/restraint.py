"""How much publishers may bring in while consumers cannot keep up with receiving, or the broker with handing out.

Taking in is several times cheaper than handing out, and sending cheaper for a client than receiving: left alone, fifty
fast publishers make a queue of millions in front of fifty fast consumers, who hardly get a core. So publishers are held
to nine messages for every ten that go out. A consumer that is merely slow must not slow its publishers down, because
that is what a queue is for; therefore they always get a tenth of the time.
"""

from typing import Final

_MESSAGES_FOR_EACH_SENT: Final = 0.9
_SHARE_OF_TIME: Final = 0.1
_SAVED_MESSAGES_MAX: Final = 16 * 1024
_SAVED_SECONDS_MAX: Final = 0.001


class Restraint:
    """What publishers have earned and not used up, or owe; seconds are of any clock that does not jump."""

    __slots__ = ("_earned_at", "_messages", "_seconds")

    def __init__(self) -> None:
        self._messages = 0.0
        self._seconds = 0.0
        self._earned_at = 0.0

    @property
    def may_take(self) -> bool:
        return self._messages > 0 or self._seconds > 0

    def earn(self, messages: int, now: float) -> None:
        """So many were handed out in the turn that ends at `now`."""
        self._messages = min(_SAVED_MESSAGES_MAX, self._messages + messages * _MESSAGES_FOR_EACH_SENT)
        self._seconds = min(_SAVED_SECONDS_MAX, self._seconds + (now - self._earned_at) * _SHARE_OF_TIME)
        self._earned_at = now

    def use(self, messages: int, seconds: float) -> None:
        """A publisher brought so many, which took so long."""
        self._messages = max(-_SAVED_MESSAGES_MAX, self._messages - messages)
        self._seconds = max(-_SAVED_SECONDS_MAX, self._seconds - seconds)
