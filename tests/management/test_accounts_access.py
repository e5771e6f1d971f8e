"""Who may see and change accounts and what is laid down: each request as a user of each tag, as RabbitMQ answers it.

Virtual host `mine` is one that every user here may enter, `other` one that none of them may.
"""

from typing import Any, NamedTuple

import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api
from tests.management.conftest import add_user

TAGS = ("administrator", "monitoring", "policymaker", "management", "impersonator", "none")
_ALL = frozenset(TAGS[:4])
_ADMINISTRATOR = frozenset({"administrator"})
_POLICYMAKER = frozenset({"administrator", "policymaker"})
_MONITORING = frozenset({"administrator", "monitoring"})

_POLICY = {"pattern": "^zz", "definition": {"max-length": 5}}
_NOTHING = {"configure": "", "write": "", "read": ""}


class Row(NamedTuple):
    """Who is let in; whoever is not gets 401."""

    allowed: frozenset[str]
    method: str
    path: str
    body: Any = None


ROWS = (
    Row(_ALL, "GET", "/vhosts"),
    Row(_ADMINISTRATOR, "GET", "/vhosts/mine"),
    Row(_ADMINISTRATOR, "PUT", "/vhosts/mine", {}),
    Row(_ADMINISTRATOR, "DELETE", "/vhosts/nope"),
    Row(_ADMINISTRATOR, "GET", "/vhosts/mine/permissions"),
    Row(_ADMINISTRATOR, "GET", "/vhosts/mine/topic-permissions"),
    Row(_ADMINISTRATOR, "GET", "/users"),
    Row(_ADMINISTRATOR, "GET", "/users/guest"),
    Row(_ADMINISTRATOR, "PUT", "/users/somebody", {"password_hash": "", "tags": ""}),
    Row(_ADMINISTRATOR, "DELETE", "/users/nope"),
    Row(_ADMINISTRATOR, "GET", "/users/without-permissions"),
    Row(_ADMINISTRATOR, "POST", "/users/bulk-delete", {"users": []}),
    Row(_ADMINISTRATOR, "GET", "/users/guest/permissions"),
    Row(_ADMINISTRATOR, "GET", "/users/guest/topic-permissions"),
    Row(_ALL, "GET", "/user-limits"),
    Row(_ALL, "GET", "/user-limits/guest"),
    Row(_ADMINISTRATOR, "PUT", "/user-limits/guest/max-channels", {"value": -1}),
    Row(_ADMINISTRATOR, "DELETE", "/user-limits/guest/max-channels"),
    Row(_ADMINISTRATOR, "GET", "/permissions"),
    Row(_ADMINISTRATOR, "GET", "/permissions/mine/guest"),
    Row(_ADMINISTRATOR, "PUT", "/permissions/mine/somebody", _NOTHING),
    Row(_ADMINISTRATOR, "DELETE", "/permissions/mine/nope"),
    Row(_ADMINISTRATOR, "GET", "/topic-permissions"),
    Row(_ADMINISTRATOR, "GET", "/topic-permissions/mine/guest"),
    Row(_ADMINISTRATOR, "PUT", "/topic-permissions/mine/guest", {"exchange": "amq.topic", "write": "", "read": ""}),
    Row(_ADMINISTRATOR, "DELETE", "/topic-permissions/mine/nope"),
    Row(_ALL, "GET", "/policies"),
    Row(_ALL, "GET", "/policies/mine"),
    Row(_ADMINISTRATOR, "GET", "/policies/other"),
    Row(_POLICYMAKER, "PUT", "/policies/mine/p", _POLICY),
    Row(_POLICYMAKER, "GET", "/policies/mine/p"),
    Row(_ADMINISTRATOR, "PUT", "/policies/other/p", _POLICY),
    Row(_POLICYMAKER, "DELETE", "/policies/mine/nope"),
    Row(_ADMINISTRATOR, "DELETE", "/policies/other/nope"),
    Row(_ALL, "GET", "/operator-policies"),
    Row(_ALL, "GET", "/operator-policies/mine"),
    Row(_ADMINISTRATOR, "PUT", "/operator-policies/mine/o", _POLICY),
    Row(_ADMINISTRATOR, "GET", "/operator-policies/mine/o"),
    Row(_ADMINISTRATOR, "DELETE", "/operator-policies/mine/nope"),
    Row(_ALL, "GET", "/vhost-limits"),
    Row(_ALL, "GET", "/vhost-limits/mine"),
    Row(_MONITORING, "GET", "/vhost-limits/other"),
    Row(_ADMINISTRATOR, "PUT", "/vhost-limits/mine/max-queues", {"value": 100}),
    Row(_ADMINISTRATOR, "DELETE", "/vhost-limits/mine/max-queues"),
    Row(_POLICYMAKER, "GET", "/parameters"),
    Row(_POLICYMAKER, "GET", "/parameters/policy"),
    Row(_POLICYMAKER, "GET", "/parameters/policy/mine"),
    Row(_ADMINISTRATOR, "GET", "/parameters/policy/other"),
    Row(_POLICYMAKER, "PUT", "/parameters/shovel/mine/s", {"value": {"src-uri": "amqp://"}}),
    Row(_ADMINISTRATOR, "PUT", "/parameters/shovel/other/s", {"value": {"src-uri": "amqp://"}}),
    Row(_POLICYMAKER, "GET", "/parameters/shovel/mine/s"),
    Row(_POLICYMAKER, "DELETE", "/parameters/shovel/mine/nope"),
    Row(_ADMINISTRATOR, "PUT", "/parameters/vhost-limits/mine/limits", {"value": {"max-queues": 100}}),
    Row(_ADMINISTRATOR, "PUT", "/parameters/operator_policy/mine/o", {"value": _POLICY}),
    Row(_ADMINISTRATOR, "DELETE", "/parameters/operator_policy/mine/nope"),
    Row(_POLICYMAKER, "GET", "/global-parameters"),
    Row(_POLICYMAKER, "PUT", "/global-parameters/g", {"value": 1}),
    Row(_POLICYMAKER, "GET", "/global-parameters/g"),
    Row(_POLICYMAKER, "DELETE", "/global-parameters/nope"),
    Row(_ALL, "GET", "/cluster-name"),
    Row(_ADMINISTRATOR, "PUT", "/cluster-name", {"name": "c"}),
    Row(_ADMINISTRATOR, "PUT", "/auth/hash_password", {"password": "x"}),
    Row(_ADMINISTRATOR, "GET", "/auth/hash_password/x"),
    Row(_ADMINISTRATOR, "GET", "/definitions"),
    Row(_ADMINISTRATOR, "GET", "/definitions/mine"),
    Row(_ADMINISTRATOR, "POST", "/definitions", {}),
    Row(_ADMINISTRATOR, "POST", "/definitions/mine", {}),
    Row(_ADMINISTRATOR, "POST", "/definitions/upload", {}),
    Row(_ADMINISTRATOR, "POST", "/definitions/mine/upload", {}),
)


@pytest.fixture(scope="module")
def callers(managed: RunningBroker) -> dict[str, Api]:
    managed.command("vhost", "add", "mine")
    managed.command("vhost", "add", "other")
    made: dict[str, Api] = {}
    for tag in TAGS:
        made[tag] = add_user(managed, tag, *(() if tag == "none" else (tag,)))
        managed.permit(tag, "mine", configure=".*", write=".*", read=".*")
    managed.permit("guest", "mine", configure=".*", write=".*", read=".*")
    guest = Api(managed.http_port)
    assert guest.put("/users/somebody", {"password_hash": "", "tags": ""}).status == 201
    topics = {"exchange": "amq.topic", "write": "", "read": ""}
    assert guest.put("/topic-permissions/mine/guest", topics).status == 201
    return made


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_only_who_has_the_tag_and_the_permission_is_let_in(row: Row, callers: dict[str, Api]) -> None:
    answered = {tag: callers[tag].ask(row.method, row.path, row.body) for tag in TAGS}

    assert {tag for tag, answer in answered.items() if answer.status != 401} == row.allowed
    assert all(answer.status in (200, 201, 204, 404) for tag, answer in answered.items() if tag in row.allowed)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_nobody_is_let_in_without_a_name(row: Row, api: Api) -> None:
    assert api.ask(row.method, row.path, row.body, headers={"Authorization": ""}).status == 401


def test_lists_show_what_lies_in_virtual_hosts_one_may_enter(callers: dict[str, Api]) -> None:
    administrator = callers["administrator"]
    for vhost in ("mine", "other"):
        assert administrator.put(f"/policies/{vhost}/seen", _POLICY).status in (201, 204)
        assert administrator.put(f"/vhost-limits/{vhost}/max-connections", {"value": 9}).status == 204

    def vhosts_in(tag: str, path: str) -> set[str]:
        return {document.get("vhost") or document["name"] for document in callers[tag].get(path).body}

    everywhere = {"administrator": True, "monitoring": False, "policymaker": False, "management": False}
    for tag, sees_all in everywhere.items():
        assert ("other" in vhosts_in(tag, "/policies")) is sees_all
        assert "mine" in vhosts_in(tag, "/policies")
    for path in ("/vhosts", "/vhost-limits"):
        assert {tag for tag in everywhere if "other" in vhosts_in(tag, path)} == {"administrator", "monitoring"}
