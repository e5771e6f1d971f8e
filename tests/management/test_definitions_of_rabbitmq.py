"""Definitions out of RabbitMQ and into this broker, and back, where Debian's rabbitmq-server is installed.

RabbitMQ is filled with every kind of object it has without plugins, over its own API; what it exports is imported here,
exported again and compared; and what is exported here is imported there.
"""

import json
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from bench.fresh_rabbitmq import RabbitMQNode, find_version
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.management.api import Api

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(find_version() is None, reason="Debian's rabbitmq-server is not installed"),
]

V = "/all%20kinds%2Fone"
_ARGUMENTS = {"x-match": "all", "n": 5, "big": 2**40, "f": 1.5, "b": True, "l": [1, "a"], "t": {"a": 1}}
_POLICY = {"pattern": "^a", "definition": {"max-length": 5, "overflow": "reject-publish"}, "priority": 1}
_OF_SOMEBODY = {"name": "amq.gen-somebody", "durable": True, "auto_delete": False, "arguments": {}}
_FILLING: tuple[tuple[str, str, Any], ...] = (
    ("PUT", f"/vhosts{V}", {"description": "first", "tags": "a,b"}),
    ("PUT", "/vhosts/empty", {}),
    ("PUT", "/vhosts/quorums", {"default_queue_type": "quorum"}),
    ("PUT", "/queues/quorums/by-default", {"durable": True}),
    ("PUT", "/queues/quorums/cannot-be", {"durable": False}),
    ("PUT", "/users/ida", {"password": "geheim", "tags": "management,policymaker"}),
    ("PUT", "/users/otto", {"password": "güheim", "tags": ""}),
    ("PUT", "/users/mute", {"password_hash": "", "tags": ""}),
    ("PUT", "/user-limits/ida/max-channels", {"value": 500}),
    ("PUT", "/user-limits/ida/max-connections", {"value": -1}),
    ("PUT", f"/permissions{V}/ida", {"configure": "^ida", "write": ".*", "read": ""}),
    ("PUT", "/permissions/%2F/ida", {"configure": "", "write": ".*", "read": ".*"}),
    ("PUT", f"/permissions{V}/otto", {"configure": ".*", "write": ".*", "read": ".*"}),
    ("PUT", f"/topic-permissions{V}/ida", {"exchange": "amq.topic", "write": "^a", "read": ".*"}),
    ("PUT", f"/queues{V}/classic", {"durable": True, "arguments": {"x-max-length": 5, "x-dead-letter-exchange": "x"}}),
    ("PUT", f"/queues{V}/lazy", {"durable": True, "arguments": {"x-queue-mode": "lazy", "x-message-ttl": 1000}}),
    ("PUT", f"/queues{V}/priority", {"durable": True, "arguments": {"x-max-priority": 5, "x-expires": 600000}}),
    ("PUT", f"/queues{V}/quorum", {"durable": True, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}}),
    ("PUT", f"/queues{V}/transient", {"durable": False}),
    ("PUT", f"/queues{V}/auto", {"durable": True, "auto_delete": True}),
    ("POST", f"/definitions{V}", {"queues": [_OF_SOMEBODY]}),  # a name that no client may choose
    ("PUT", "/queues/%2F/%C3%BC%2F%20%25", {"durable": True}),
    ("PUT", f"/exchanges{V}/topics", {"type": "topic", "durable": True}),
    ("PUT", f"/exchanges{V}/fans", {"type": "fanout", "durable": True, "auto_delete": True}),
    ("PUT", f"/exchanges{V}/straight", {"type": "direct", "durable": False}),
    (
        "PUT",
        f"/exchanges{V}/heads",
        {"type": "headers", "durable": True, "internal": True, "arguments": {"alternate-exchange": "amq.fanout"}},
    ),
    ("POST", f"/bindings{V}/e/topics/q/classic", {"routing_key": "a.*", "arguments": {}}),
    ("POST", f"/bindings{V}/e/topics/q/classic", {"routing_key": "b.#", "arguments": {"x": "y"}}),
    ("POST", f"/bindings{V}/e/amq.topic/q/lazy", {"routing_key": "#", "arguments": {}}),
    ("POST", f"/bindings{V}/e/heads/q/classic", {"routing_key": "", "arguments": _ARGUMENTS}),
    ("POST", f"/bindings{V}/e/topics/e/heads", {"routing_key": "c", "arguments": {}}),
    ("PUT", f"/policies{V}/short", _POLICY | {"apply-to": "queues"}),
    ("PUT", "/policies/%2F/alternate", {"pattern": ".*", "definition": {"alternate-exchange": "amq.fanout"}}),
    ("PUT", f"/operator-policies{V}/calm", {"pattern": ".*", "definition": {"message-ttl": 10000}, "priority": 2}),
    ("PUT", f"/vhost-limits{V}/max-queues", {"value": 500}),
    ("PUT", f"/vhost-limits{V}/max-connections", {"value": 50}),
    ("PUT", "/global-parameters/anything", {"value": {"a": [1, None, "b"]}}),
    ("PUT", "/cluster-name", {"name": "of rabbits"}),
)
_SECTIONS = (
    "users",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
)


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    node = RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"), is_managed=True)
    try:
        node.start()
        api = Api(port_of(node))
        eventually(lambda: is_answering(api), "RabbitMQ's management API", seconds=30)
        for method, path, body in _FILLING:
            answer = api.ask(method, path, body)
            assert answer.status in (201, 204), (path, answer)
        yield node
    finally:
        node.stop()


def is_answering(api: Api) -> bool:
    try:
        return api.get("/whoami").status == 200
    except OSError:
        return False


def port_of(node: RabbitMQNode) -> int:
    assert node.http_port is not None
    return node.http_port


@pytest.fixture(scope="module")
def file(rabbitmq: RabbitMQNode) -> dict[str, Any]:
    body: dict[str, Any] = Api(port_of(rabbitmq)).get("/definitions").body
    return body


@pytest.fixture(scope="module")
def filled(managed: RunningBroker, file: dict[str, Any]) -> Api:
    api = Api(managed.http_port)
    answer = api.post("/definitions", file)
    assert answer.status == 204, answer
    return api


def in_any_order(entries: list[Any]) -> list[str]:
    return sorted(json.dumps(entry, sort_keys=True) for entry in entries)


@pytest.mark.parametrize("section", _SECTIONS)
def test_what_rabbitmq_exports_is_exported_here_just_so(section: str, filled: Api, file: dict[str, Any]) -> None:
    found = filled.get("/definitions").body

    assert file[section]
    assert in_any_order(found[section]) == in_any_order(file[section])


def test_the_virtual_hosts_are_those_of_rabbitmq(filled: Api, file: dict[str, Any]) -> None:
    """It says more of them in other answers than it exports."""
    found = filled.get("/definitions").body

    assert {vhost["name"] for vhost in found["vhosts"]} == {vhost["name"] for vhost in file["vhosts"]}


def test_one_virtual_hosts_file_is_just_so(filled: Api, rabbitmq: RabbitMQNode) -> None:
    path = f"/definitions{V}"
    theirs, ours = Api(port_of(rabbitmq)).get(path).body, filled.get(path).body

    for section in ("parameters", "policies", "queues", "exchanges", "bindings"):
        assert in_any_order(ours[section]) == in_any_order(theirs[section])


@pytest.mark.parametrize(("user", "password"), [("ida", "geheim"), ("otto", "güheim"), ("guest", "guest")])
def test_users_of_rabbitmq_log_in_with_their_passwords(
    user: str, password: str, filled: Api, managed: RunningBroker
) -> None:
    vhost = "/" if user == "guest" else "all kinds/one"
    credentials = pika.PlainCredentials(user, password)
    pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", managed.port, vhost, credentials)).close()

    answer = filled.as_user(user, password).get("/whoami")
    assert answer.status == (401 if user == "otto" else 200)  # otto has no tag
    assert answer.body.get("reason", "") in ("", "Not management user")
    assert filled.as_user(user, password + "x").get("/whoami").body["reason"] == "Login failed"


def test_rabbitmq_takes_in_what_is_exported_here(filled: Api, rabbitmq: RabbitMQNode) -> None:
    """Its users among them; whoever got a password here needs another one there."""
    assert filled.put("/users/new", {"password": "secret", "tags": "management"}).status == 201
    assert filled.put("/vhosts/also%20new", {"description": "d", "tags": "t"}).status == 201
    file = filled.get("/definitions").body
    theirs = Api(port_of(rabbitmq))

    assert theirs.post("/definitions", file).status == 204

    found = theirs.get("/definitions").body
    assert in_any_order(found["users"]) == in_any_order(file["users"])
    for section in ("permissions", "policies", "queues", "exchanges", "bindings"):
        assert in_any_order(found[section]) == in_any_order(file[section])
    assert theirs.as_user("ida", "geheim").get("/whoami").status == 200
    assert theirs.as_user("new", "secret").get("/whoami").status != 200
    assert theirs.put("/users/new", {"password": "another", "tags": "management"}).status == 204
    assert theirs.as_user("new", "another").get("/whoami").status == 200
