"""Parameters, wherever they are kept: policies and limits of vhosts are seen and set as such, too."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from ipc.messages.inventory import Document
from ipc.messages.rules import Policy
from runtime.auth.directory import Directory
from runtime.decisions.parameters import CLUSTER_NAME, LIMITS_NAME, OPERATOR_POLICY, POLICY, VHOST_LIMITS
from runtime.management.broker import Broker
from runtime.management.documents import policies_in, policy_value
from runtime.management.errors import BadRequest


class PolicyBody(Struct, frozen=True, rename={"apply_to": "apply-to"}):
    """`definition` has RabbitMQ's settings, such as `max-length`."""

    pattern: str
    definition: Any
    apply_to: str = "all"
    priority: int = 0

    def policy(self, name: str) -> Policy:
        return Policy(name, self.pattern, self.definition, self.apply_to, self.priority)


def parameter_documents(directory: Directory, component: str | None = None) -> Iterator[Document]:
    """All of one component; or of all, where policies are left out, as RabbitMQ has it."""
    for vhost, stored_in, name, value in directory.parameters():
        if component in (None, stored_in):
            yield _document(vhost, stored_in, name, value)
    for owner in directory.vhosts():
        if component == POLICY:
            for policy in policies_in(directory, owner.name, is_operator=False):
                yield _document(owner.name, POLICY, policy.name, policy_value(policy))
        if component in (None, OPERATOR_POLICY):
            for policy in policies_in(directory, owner.name, is_operator=True):
                yield _document(owner.name, OPERATOR_POLICY, policy.name, policy_value(policy))
        limits = directory.limits(owner.name)
        if component in (None, VHOST_LIMITS) and limits:
            yield _document(owner.name, VHOST_LIMITS, LIMITS_NAME, dict(limits))


def _document(vhost: str, component: str, name: str, value: Any) -> Document:
    return {"value": value, "vhost": vhost, "component": component, "name": name}


def setting_of(directory: Directory, vhost: str, component: str, name: str, value: Any) -> Callable[[], None]:
    """What sets a parameter, wherever it is kept. Raises BadRequest for what has no such form."""
    if component == POLICY:
        raise BadRequest("policies may not be set using this method")
    if component == OPERATOR_POLICY:
        policy = _converted(value, PolicyBody).policy(name)
        return lambda: directory.set_policy(vhost, policy, is_operator=True)
    if component == VHOST_LIMITS:
        limits = _converted(value, dict[str, int])
        return lambda: _set_limits(directory, vhost, limits)
    return lambda: directory.set_parameter(vhost, component, name, value)


def _set_limits(directory: Directory, vhost: str, limits: dict[str, int]) -> None:
    """These and no others."""
    with directory.together():
        directory.clear_limits(vhost)
        for name, limit in limits.items():
            directory.set_limit(vhost, name, limit)


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise BadRequest(f"value: {fault}") from fault


def cluster_name_of(directory: Directory, broker: Broker) -> str:
    """What was set over the API, else in the settings, else the node's name."""
    named = directory.global_parameters().get(CLUSTER_NAME)
    return str(named or broker.settings.management.cluster_name or broker.node)
