"""What a queue's arguments ask of it: checked once, when it is declared, and plain attributes from then on."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from ipc.errors import PreconditionFailed
from ipc.limits import DEDUPLICATED_MAX, DEDUPLICATED_MAX_DEFAULT, QUORUM_RETURNS_MAX, TIME_MS_MAX
from shards.model.bindings import Arguments
from shards.model.fields import shown

DROP_HEAD: Final = "drop-head"
REJECT_PUBLISH: Final = "reject-publish"
REJECT_PUBLISH_DLX: Final = "reject-publish-dlx"


class Terms(Struct, frozen=True, kw_only=True):
    """The same for all queues without arguments; None: not asked for. Times are milliseconds, sizes bytes of bodies."""

    message_ttl: int | None = None
    expires: int | None = None
    length_max: int | None = None
    bytes_max: int | None = None
    overflow: str = DROP_HEAD
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    priority_max: int | None = None
    consumer_timeout: int | None = None
    is_single_active: bool = False
    is_quorum: bool = False
    deduplicates: bool = False
    deduplicated_max: int = DEDUPLICATED_MAX_DEFAULT
    deduplicated_ttl: int | None = None
    deduplication_header: str = "x-deduplication-header"

    @property
    def returns_max(self) -> int | None:
        """How often a message may come back; quorum queues limit it without being asked, -1 asks for no limit."""
        limit = QUORUM_RETURNS_MAX if self.is_quorum and self.delivery_limit is None else self.delivery_limit
        return None if limit is None or limit < 0 else limit

    @property
    def has_limits(self) -> bool:
        return self.length_max is not None or self.bytes_max is not None

    @property
    def rejects(self) -> bool:
        """Whether a publish may be refused."""
        return self.has_limits and self.overflow != DROP_HEAD


def read_terms(arguments: Arguments, where: str) -> Terms:
    """The terms of these arguments; `where` is the queue and its vhost, as they stand in RabbitMQ's texts.

    Raises PreconditionFailed (406) naming the argument that nobody could follow. Unknown ones are kept and ignored.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        rule = _RULES.get(name)
        if rule is not None:
            field, check = rule
            found[field] = check(name, value, where)
    terms = Terms(**found)
    if terms.dead_letter_routing_key is not None and terms.dead_letter_exchange is None:
        raise _invalid("x-dead-letter-routing-key", where, "routing_key_but_no_dlx_defined")
    if terms.priority_max == 0:
        terms = Terms(**(found | {"priority_max": None}))
    return terms


def recall_terms(arguments: Arguments) -> Terms:
    """The terms of a queue that exists; what cannot be followed was declared before anybody checked, and is ignored."""
    try:
        return read_terms(arguments, "")
    except PreconditionFailed:
        pass
    kept: Arguments = {}
    for name, value in sorted(arguments.items()):  # the dead letter exchange before its routing key
        try:
            read_terms(kept | {name: value}, "")
        except PreconditionFailed:
            continue
        kept[name] = value
    return read_terms(kept, "")


def _invalid(name: str, where: str, reason: str) -> PreconditionFailed:
    return PreconditionFailed(f"invalid arg '{name}' for {where}: {reason}")


def _number(low: int, high: int) -> Callable[[str, Any, str], int]:
    def check(name: str, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _invalid(name, where, f"expected a number, received {shown(value)}")
        if not low <= value <= high:
            raise _invalid(name, where, f"expected {low} to {high}, received {value}")
        return value

    return check


def _text(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _invalid(name, where, f"expected a string, received {shown(value)}")
    return value


def _flag(name: str, value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _invalid(name, where, f"expected a boolean, received {shown(value)}")
    return value


def _one_of(*allowed: str) -> Callable[[str, Any, str], str]:
    def check(name: str, value: Any, where: str) -> str:
        if _text(name, value, where) not in allowed:
            raise _invalid(name, where, f"expected one of {', '.join(allowed)}, received '{value}'")
        return str(value)

    return check


def _queue_type(name: str, value: Any, where: str) -> bool:
    """Quorum queues are durable queues with a delivery limit here; streams are not queues at all."""
    return _one_of("classic", "quorum")(name, value, where) == "quorum"


_COUNT_MAX: Final = (1 << 63) - 1

_RULES: Final[dict[str, tuple[str, Callable[[str, Any, str], Any]]]] = {
    "x-message-ttl": ("message_ttl", _number(0, TIME_MS_MAX)),
    "x-expires": ("expires", _number(1, TIME_MS_MAX)),
    "x-max-length": ("length_max", _number(0, _COUNT_MAX)),
    "x-max-length-bytes": ("bytes_max", _number(0, _COUNT_MAX)),
    "x-overflow": ("overflow", _one_of(DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX)),
    "x-dead-letter-exchange": ("dead_letter_exchange", _text),
    "x-dead-letter-routing-key": ("dead_letter_routing_key", _text),
    "x-delivery-limit": ("delivery_limit", _number(-1, _COUNT_MAX)),
    "x-max-priority": ("priority_max", _number(0, 255)),
    "x-consumer-timeout": ("consumer_timeout", _number(0, TIME_MS_MAX)),
    "x-single-active-consumer": ("is_single_active", _flag),
    "x-queue-type": ("is_quorum", _queue_type),
    "x-message-deduplication": ("deduplicates", _flag),
    "x-cache-size": ("deduplicated_max", _number(1, DEDUPLICATED_MAX)),
    "x-cache-ttl": ("deduplicated_ttl", _number(0, TIME_MS_MAX)),
    "x-deduplication-header": ("deduplication_header", _text),
}

FIELDS: Final = {name: field for name, (field, _check) in _RULES.items()}
"""Which of the terms an argument asks for."""

DEDUPLICATION: Final = ("x-message-deduplication", "x-cache-size", "x-cache-ttl", "x-deduplication-header")
"""Arguments that exchanges have, too."""

PLAIN: Final = Terms()
