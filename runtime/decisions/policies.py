"""Which settings a policy may have, and of what kind: RabbitMQ's, refused in its words before anything is stored.

`delayed-message` is LavinMQ's.

Settings of a cluster, and of where messages lie, are taken so that definitions made for RabbitMQ can be used as they
are; nothing here depends on them (`WITHOUT_EFFECT`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ipc.limits import SHORT_STRING_BYTES_MAX, TIME_MS_MAX
from ipc.messages.rules import Policy

APPLY_TO: Final = ("all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges")
PRIORITY_MAX: Final = 2**31 - 1
_COUNT_MAX: Final = 2**63 - 1


class PolicyRefusal(Exception):
    """No such policy can be; one sentence for a person."""


class _Setting(NamedTuple):
    is_valid: Callable[[Any], bool]
    meaning: str  # as it stands in "… is not a valid …"


def _number(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _one_of(*allowed: int | str) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and value in allowed


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode()) <= SHORT_STRING_BYTES_MAX


_SETTINGS: Final[Mapping[str, _Setting]] = {
    "alternate-exchange": _Setting(_name, "alternate exchange name"),
    "consumer-timeout": _Setting(_number(0, TIME_MS_MAX), "consumer timeout"),
    "dead-letter-exchange": _Setting(_name, "dead letter exchange name"),
    "dead-letter-routing-key": _Setting(_name, "dead letter routing key"),
    "delayed-message": _Setting(_flag, "boolean"),  # LavinMQ's: its exchanges keep back what has an x-delay
    "delivery-limit": _Setting(_number(-1, _COUNT_MAX), "delivery limit"),  # -1: none, as in RabbitMQ 4
    "expires": _Setting(_number(1, TIME_MS_MAX), "queue expiry"),
    "max-length": _Setting(_number(0, _COUNT_MAX), "maximum length"),
    "max-length-bytes": _Setting(_number(0, _COUNT_MAX), "maximum length in bytes"),
    "message-ttl": _Setting(_number(0, TIME_MS_MAX), "message TTL"),
    "overflow": _Setting(_one_of("drop-head", "reject-publish", "reject-publish-dlx"), "overflow value"),
    "dead-letter-strategy": _Setting(_one_of("at-most-once", "at-least-once"), "dead letter strategy"),
    "initial-cluster-size": _Setting(_number(0, _COUNT_MAX), "cluster size"),
    "max-in-memory-bytes": _Setting(_number(0, _COUNT_MAX), "maximum memory in bytes"),
    "max-in-memory-length": _Setting(_number(0, _COUNT_MAX), "maximum memory in bytes"),
    "queue-leader-locator": _Setting(_one_of("client-local", "balanced", "random", "least-leaders"), "leader locator"),
    "queue-master-locator": _Setting(_one_of("client-local", "min-masters", "random"), "master locator"),
    "queue-mode": _Setting(_one_of("default", "lazy"), "queue-mode value"),
    "queue-version": _Setting(_one_of(1, 2), "queue-version value"),
    "target-group-size": _Setting(_number(1, _COUNT_MAX), "target group size"),
}

OPERATORS: Final = frozenset(
    {
        "delivery-limit",
        "expires",
        "max-in-memory-bytes",
        "max-in-memory-length",
        "max-length",
        "max-length-bytes",
        "message-ttl",
        "target-group-size",
    }
)
"""What an operator policy may limit."""

WITHOUT_EFFECT: Final = frozenset(
    {
        "dead-letter-strategy",
        "initial-cluster-size",
        "max-in-memory-bytes",
        "max-in-memory-length",
        "queue-leader-locator",
        "queue-master-locator",
        "queue-mode",
        "queue-version",
        "target-group-size",
    }
)


def check_policy(policy: Policy, *, is_operator: bool) -> None:
    """Raises PolicyRefusal naming what is wrong first."""
    if not policy.name or not _name(policy.name):
        raise PolicyRefusal(f"a policy's name has 1 to {SHORT_STRING_BYTES_MAX} bytes")
    if policy.apply_to not in APPLY_TO:
        raise PolicyRefusal(f"apply-to '{policy.apply_to}' unrecognised; should be one of: {', '.join(APPLY_TO)}")
    if not _number(-PRIORITY_MAX, PRIORITY_MAX)(policy.priority):
        raise PolicyRefusal(f"priority {policy.priority!r} is not a number from {-PRIORITY_MAX} to {PRIORITY_MAX}")
    _check_pattern(policy.pattern)
    _check_definition(policy.definition, is_operator=is_operator)


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as fault:
        raise PolicyRefusal(f"'{pattern}' is not a regular expression: {fault}") from fault


def _check_definition(definition: object, *, is_operator: bool) -> None:
    if not isinstance(definition, dict):
        raise PolicyRefusal(f"definition must be a dictionary: {definition!r}")
    if not definition:
        raise PolicyRefusal("no policy provided")
    known = OPERATORS if is_operator else _SETTINGS.keys()
    unknown = sorted(str(key) for key in definition if key not in known)
    if unknown:
        raise PolicyRefusal(
            f"{', '.join(unknown)}: not recognised {'operator ' if is_operator else ''}policy settings; "
            f"there are {', '.join(sorted(known))}"
        )
    for key, value in definition.items():
        if not _SETTINGS[key].is_valid(value):
            raise PolicyRefusal(f"{key}: {value!r} is not a valid {_SETTINGS[key].meaning}")
