"""Which parameters a vhost and the broker as a whole may have: by component, as RabbitMQ's plugins define them.

Some components are kept elsewhere and only look like parameters in RabbitMQ's API: policies, operator policies, limits.
"""

from typing import Any, Final

from ipc.limits import SHORT_STRING_BYTES_MAX

POLICY: Final = "policy"
OPERATOR_POLICY: Final = "operator_policy"
VHOST_LIMITS: Final = "vhost-limits"
LIMITS_NAME: Final = "limits"
"""What the one parameter is called that has a vhost's limits."""

STORED: Final = frozenset({"shovel", "federation-upstream", "federation-upstream-set"})
"""Kept as they are, for whoever acts by them."""

CLUSTER_NAME: Final = "cluster_name"
"""The global parameter that names the broker."""

_STORED_AS: Final = {"federation-upstream-set": list}


class ParameterRefusal(Exception):
    """No such parameter can be; one sentence for a person."""


def check_parameter(component: str, name: str, value: Any) -> None:
    """Raises ParameterRefusal, in RabbitMQ's words where it has any."""
    if component not in STORED:
        raise ParameterRefusal(f"component {component} not found")
    _check_name(name)
    kind = _STORED_AS.get(component, dict)
    if not isinstance(value, kind):
        raise ParameterRefusal(f"the value of a {component} is a JSON {'array' if kind is list else 'object'}")


def check_global_parameter(name: str, value: Any) -> None:
    """Any JSON there is; raises ParameterRefusal."""
    _check_name(name)
    if name == CLUSTER_NAME and not (isinstance(value, str) and value):
        raise ParameterRefusal(f"{CLUSTER_NAME} should be a text")


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= SHORT_STRING_BYTES_MAX:
        raise ParameterRefusal(f"a parameter's name has 1 to {SHORT_STRING_BYTES_MAX} bytes")
