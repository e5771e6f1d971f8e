"""Virtual hosts, users, permissions, policies, limits and parameters over HTTP: made, seen, changed, refused."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api

_POLICY = {"pattern": "^a", "definition": {"max-length": 5}, "priority": 1, "apply-to": "queues"}
_EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture
def vhost(api: Api) -> Iterator[str]:
    """One with a slash in its name; as it stands in a path."""
    assert api.put("/vhosts/a%2Fb").status == 201
    yield "a%2Fb"
    api.delete("/vhosts/a%2Fb")


@pytest.fixture
def user(api: Api) -> Iterator[str]:
    assert api.put("/users/ida", {"password": "secret", "tags": "management"}).status == 201
    yield "ida"
    api.delete("/users/ida")


def connect(broker: RunningBroker, user: str, password: str, vhost: str = "/") -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost, credentials))


# virtual hosts --------------------------------------------------------------------------------------------------------


def test_a_virtual_host_is_added_described_and_deleted(api: Api, managed: RunningBroker) -> None:
    said = {"description": "what is sold", "tags": "a, b", "default_queue_type": "quorum"}
    assert api.put("/vhosts/shop", said)[:1] == (201,)
    found = api.get("/vhosts/shop").body
    assert (found["description"], found["tags"], found["default_queue_type"]) == ("what is sold", ["a", "b"], "quorum")
    assert found["metadata"] == {"description": "what is sold", "tags": ["a", "b"], "default_queue_type": "quorum"}

    assert api.put("/vhosts/shop", {"tags": ["c"]}).status == 204
    assert api.get("/vhosts/shop").body["metadata"] == {
        "description": "",
        "tags": ["c"],
        "default_queue_type": "quorum",
    }
    assert api.put("/vhosts/shop", {"tags": ["c"], "default_queue_type": ""}).status == 204
    assert api.get("/vhosts/shop").body["metadata"] == {"description": "", "tags": ["c"]}

    connect(managed, "guest", "guest", "shop").close()  # whoever adds one may do everything in it
    assert api.delete("/vhosts/shop").status == 204
    assert api.get("/vhosts/shop").status == 404


def test_queues_without_a_type_are_of_the_virtual_hosts_default_type(api: Api, managed: RunningBroker) -> None:
    """Over AMQP and HTTP, and by whom it is laid down while clients are there; a file says what it says."""
    assert api.put("/vhosts/typed").status == 201
    with closing(connect(managed, "guest", "guest", "typed")) as connection:
        channel = connection.channel()
        channel.queue_declare("before", durable=True)
        assert api.put("/vhosts/typed", {"default_queue_type": "rabbit_quorum_queue"}).status == 204
        channel.queue_declare("before", durable=True)
        channel.queue_declare("over-amqp", durable=True)
        channel.queue_declare("transient")
        channel.queue_declare("named", durable=True, arguments={"x-queue-type": "classic"})
    assert api.put("/queues/typed/over-http", {"durable": True}).status == 201
    assert api.put("/queues/typed/over-http", {"durable": True}).status == 204
    file = {"queues": [{"name": "filed", "durable": True, "auto_delete": False, "arguments": {}}]}
    assert api.post("/definitions/typed", file).status == 204

    found = {queue["name"]: (queue["type"], queue["arguments"]) for queue in api.get("/queues/typed").body}

    quorum = ("quorum", {"x-queue-type": "quorum"})
    plain: tuple[str, dict[str, str]] = ("classic", {})
    assert found == {
        "before": plain,
        "over-amqp": quorum,
        "over-http": quorum,
        "transient": plain,
        "filed": plain,
        "named": ("classic", {"x-queue-type": "classic"}),
    }
    (exported,) = [vhost for vhost in api.get("/definitions").body["vhosts"] if vhost["name"] == "typed"]
    assert exported["metadata"]["default_queue_type"] == "quorum"
    assert api.delete("/vhosts/typed").status == 204


def test_virtual_hosts_are_listed_with_their_messages(api: Api, managed: RunningBroker, vhost: str) -> None:
    connection = connect(managed, "guest", "guest", "a/b")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q")
    for _ in range(3):
        channel.basic_publish("", "q", b"m")
    connection.close()

    counted = {document["name"]: document["messages"] for document in api.get("/vhosts").body}
    assert counted["a/b"] == 3
    assert counted["/"] == 0
    paged = api.get("/vhosts?page=1&page_size=1&name=a/&columns=name").body
    assert (paged["items"], paged["filtered_count"]) == ([{"name": "a/b"}], 1)


def test_what_was_made_has_no_body(api: Api, vhost: str) -> None:
    answer = api.put("/users/bodiless", {"password_hash": "", "tags": ""})

    assert (answer.status, answer.body) == (201, None)
    assert api.delete("/users/bodiless").status == 204


# users ----------------------------------------------------------------------------------------------------------------


def test_a_user_logs_in_over_amqp_and_http_until_its_password_is_another(
    api: Api, managed: RunningBroker, user: str
) -> None:
    assert api.put(f"/permissions/%2F/{user}", _EVERYTHING).status == 201
    connect(managed, user, "secret").close()
    assert api.as_user(user, "secret").get("/whoami").body == {"name": user, "tags": ["management"]}

    assert api.put(f"/users/{user}", {"password": "other", "tags": ["monitoring"]}).status == 204

    with pytest.raises(ProbableAuthenticationError):
        connect(managed, user, "secret")
    connect(managed, user, "other").close()
    assert api.as_user(user, "other").get("/whoami").body == {"name": user, "tags": ["monitoring"]}


@pytest.mark.parametrize("algorithm", ["rabbit_password_hashing_sha256", "rabbit_password_hashing_sha512"])
def test_a_hash_that_was_made_here_lets_its_password_in(api: Api, managed: RunningBroker, algorithm: str) -> None:
    made = api.put("/auth/hash_password", {"password": "geheim", "hashing_algorithm": algorithm}).body
    given = {"password_hash": made["password_hash"], "hashing_algorithm": algorithm, "tags": "management"}
    assert api.put("/users/hashed", given).status in (201, 204)

    assert api.as_user("hashed", "geheim").get("/whoami").status == 200
    assert api.as_user("hashed", "falsch").get("/whoami").status == 401
    shown = api.get("/users/hashed").body
    assert (shown["password_hash"], shown["hashing_algorithm"]) == (made["password_hash"], algorithm)


def test_no_password_is_ever_shown_and_new_hashes_are_argon2(api: Api, user: str) -> None:
    shown = api.get(f"/users/{user}").body

    assert shown["hashing_algorithm"] == "ebbmq_argon2id"
    assert "secret" not in str(shown)


def test_users_without_a_password_do_not_log_in(api: Api) -> None:
    assert api.put("/users/mute", {"tags": "administrator"}).status == 201

    assert api.as_user("mute", "").get("/whoami").status == 401
    assert api.delete("/users/mute").status == 204


def test_users_are_deleted_all_at_once_or_none(api: Api) -> None:
    for name in ("one", "two"):
        assert api.put(f"/users/{name}", {"tags": ""}).status == 201
    assert {"one", "two"} <= {user["name"] for user in api.get("/users/without-permissions").body}

    refused = api.post("/users/bulk-delete", {"users": ["one", "missing"]})
    assert (refused.status, refused.body["reason"]) == (400, "no_such_user: missing")
    assert api.get("/users/one").status == 200

    assert api.post("/users/bulk-delete", {"users": ["one", "two"]}).status == 204
    assert {api.get("/users/one").status, api.get("/users/two").status} == {404}


def test_permissions_are_given_seen_and_taken(api: Api, user: str, vhost: str) -> None:
    mine = {"configure": "^ida", "write": ".*", "read": ""}
    topic = {"exchange": "amq.topic", "write": "^a", "read": "^b"}
    assert api.put(f"/permissions/{vhost}/{user}", mine).status == 201
    assert api.put(f"/permissions/{vhost}/{user}", mine).status == 204
    assert api.put(f"/topic-permissions/{vhost}/{user}", topic).status == 201
    assert api.put(f"/topic-permissions/{vhost}/{user}", topic).status == 204

    said = {"user": user, "vhost": "a/b"}
    assert api.get(f"/permissions/{vhost}/{user}").body == said | mine
    assert api.get(f"/users/{user}/permissions").body == [said | mine]
    assert said | mine in api.get(f"/vhosts/{vhost}/permissions").body
    for path in (f"/topic-permissions/{vhost}/{user}", f"/users/{user}/topic-permissions"):
        assert api.get(path).body == [said | topic]
    assert api.get(f"/vhosts/{vhost}/topic-permissions").body == [said | topic]

    for path in (f"/permissions/{vhost}/{user}", f"/topic-permissions/{vhost}/{user}"):
        assert api.delete(path).status == 204
        assert api.delete(path).status == 404
        assert api.get(path).status == 404


# limits ---------------------------------------------------------------------------------------------------------------


def test_a_user_has_no_more_connections_and_channels_than_it_may(api: Api, managed: RunningBroker, user: str) -> None:
    for shard, name in enumerate(("limited-0", "limited-1")):
        managed.command("vhost", "add", name, "--shard", str(shard))
        assert api.put(f"/permissions/{name}/{user}", _EVERYTHING).status == 201
    assert api.put(f"/user-limits/{user}/max-connections", {"value": 2}).status == 204
    assert api.put(f"/user-limits/{user}/max-channels", {"value": 1}).status == 204
    limits = {"max-channels": 1, "max-connections": 2}
    assert api.get(f"/user-limits/{user}").body == [{"user": user, "value": limits}]
    assert api.get(f"/users/{user}").body["limits"] == limits

    first, second = (connect(managed, user, "secret", name) for name in ("limited-0", "limited-1"))
    with pytest.raises(
        ProbableAccessDeniedError, match=r"connection refused for user 'ida': user connection limit \(2"
    ):
        connect(managed, user, "secret", "limited-0")
    first.channel()
    with pytest.raises(ConnectionClosedByBroker, match="has reached the maximum allowed user limit of"):
        first.channel()
    connect(managed, user, "secret", "limited-0").close()  # there is room again

    for name in limits:
        assert api.delete(f"/user-limits/{user}/{name}").status == 204
    second.channel()
    second.channel()
    connect(managed, user, "secret", "limited-1").close()
    second.close()
    assert api.get(f"/user-limits/{user}").body == []


def test_limits_of_a_virtual_host_are_set_one_by_one_or_as_a_parameter(api: Api, vhost: str) -> None:
    assert api.put(f"/vhost-limits/{vhost}/max-queues", {"value": 1}).status == 204
    assert api.put(f"/vhost-limits/{vhost}/max-connections", {"value": -1}).status == 204
    limits = {"max-connections": -1, "max-queues": 1}
    assert api.get(f"/vhost-limits/{vhost}").body == [{"vhost": "a/b", "value": limits}]

    assert api.put(f"/queues/{vhost}/one", {"durable": True}).status == 201
    refused = api.put(f"/queues/{vhost}/two", {"durable": True})
    assert "queue limit in vhost 'a/b' (1) is reached" in refused.body["reason"]

    assert api.put(f"/parameters/vhost-limits/{vhost}/limits", {"value": {"max-queues": 5}}).status == 204
    assert api.get(f"/parameters/vhost-limits/{vhost}/limits").body["value"] == {"max-queues": 5}
    assert api.delete(f"/vhost-limits/{vhost}/max-queues").status == 204
    assert api.get(f"/vhost-limits/{vhost}").body == []


# policies and parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
def test_a_policy_holds_as_soon_as_it_is_answered(kind: str, api: Api, vhost: str) -> None:
    assert api.put(f"/queues/{vhost}/a1", {"durable": True}).status == 201

    assert api.put(f"/{kind}/{vhost}/short", _POLICY).status == 201

    document = {"vhost": "a/b", "name": "short", **_POLICY}
    assert api.get(f"/{kind}/{vhost}/short").body == document
    assert document in api.get(f"/{kind}").body
    key = "policy" if kind == "policies" else "operator_policy"
    queue = api.get(f"/queues/{vhost}/a1").body
    assert (queue[key], queue["effective_policy_definition"]) == ("short", {"max-length": 5})

    assert api.put(f"/{kind}/{vhost}/short", _POLICY).status == 204
    assert api.delete(f"/{kind}/{vhost}/short").status == 204
    assert api.get(f"/queues/{vhost}/a1").body.get(key) is None


def test_parameters_are_kept_as_they_are_and_policies_look_like_them(api: Api, vhost: str) -> None:
    shovel = {"src-uri": "amqp://", "src-queue": "a", "nested": [{"b": None}]}
    assert api.put(f"/parameters/shovel/{vhost}/s", {"value": shovel}).status == 201
    assert api.put(f"/parameters/shovel/{vhost}/s", {"value": shovel}).status == 204
    assert api.put(f"/parameters/operator_policy/{vhost}/o", {"value": _POLICY}).status == 201
    assert api.put(f"/policies/{vhost}/p", _POLICY).status == 201

    def seen(path: str) -> list[tuple[str, str]]:
        return [(found["component"], found["name"]) for found in api.get(path).body if found["vhost"] == "a/b"]

    assert seen("/parameters") == [("shovel", "s"), ("operator_policy", "o")]
    assert seen("/parameters/policy") == [("policy", "p")]
    assert seen(f"/parameters/shovel/{vhost}") == [("shovel", "s")]
    assert api.get(f"/parameters/shovel/{vhost}/s").body["value"] == shovel
    assert api.get(f"/operator-policies/{vhost}/o").body["definition"] == {"max-length": 5}

    for component, name in (("shovel", "s"), ("operator_policy", "o")):
        assert api.delete(f"/parameters/{component}/{vhost}/{name}").status == 204
        assert api.delete(f"/parameters/{component}/{vhost}/{name}").status == 404


def test_the_broker_is_called_what_it_was_called_last(api: Api) -> None:
    assert api.put("/cluster-name", {"name": "tide"}).status == 204

    assert api.get("/cluster-name").body == {"name": "tide"}
    assert api.get("/global-parameters/cluster_name").body == {"name": "cluster_name", "value": "tide"}
    assert api.delete("/global-parameters/cluster_name").status == 204
    assert api.get("/cluster-name").body != {"name": "tide"}


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/vhosts/x", {"tags": 5}, "got `int` - at `$.tags`"),
        ("/vhosts/x", {"default_queue_type": "heap"}, "no queue type 'heap'"),
        ("/vhosts/x", {"default_queue_type": "stream"}, "no queue type 'stream'; there are classic, quorum"),
        ("/vhosts/" + "x" * 256, {}, "a vhost's name has 1 to 255 bytes"),
        ("/users/x", {"password": "p"}, "tags_not_present"),
        ("/users/x", {"password": 5, "tags": ""}, "got `int` - at `$.password`"),
        ("/users/x", {"password": "p", "tags": 5}, "got `int` - at `$.tags`"),
        ("/users/x", {"password": "p", "tags": "two words"}, "a tag is one word"),
        ("/users/x", {"password": "p", "password_hash": "", "tags": ""}, "both_password_and_password_hash"),
        ("/users/x", {"password_hash": "zzz", "tags": ""}, "password_hash is not base64"),
        ("/users/x", {"password_hash": "eA==", "hashing_algorithm": "md5", "tags": ""}, "hashing_algorithm 'md5'"),
        ("/permissions/%2F/guest", {"configure": "", "write": ""}, "missing required field `read`"),
        ("/permissions/%2F/guest", {"configure": "(", "write": "", "read": ""}, "'(' is not a regular expression"),
        ("/permissions/%2F/nobody", _EVERYTHING, "vhost_or_user_not_found"),
        ("/permissions/none/guest", _EVERYTHING, "vhost_or_user_not_found"),
        ("/topic-permissions/%2F/guest", {"write": "", "read": ""}, "missing required field `exchange`"),
        ("/policies/%2F/p", {"pattern": "(", "definition": {"max-length": 1}}, "'(' is not a regular expression"),
        ("/policies/%2F/p", {"pattern": "a"}, "missing required field `definition`"),
        ("/policies/%2F/p", {"pattern": "a", "definition": {}}, "no policy provided"),
        ("/policies/%2F/p", {"pattern": "a", "definition": []}, "definition must be a dictionary"),
        ("/policies/%2F/p", {"pattern": "a", "definition": {"nope": 1}}, "nope: not recognised policy settings"),
        ("/policies/%2F/p", {"pattern": "a", "definition": {"max-length": "x"}}, "'x' is not a valid maximum length"),
        ("/policies/%2F/p", {"pattern": "a", "definition": {"expires": 1}, "apply-to": "x"}, "apply-to 'x' unrecogn"),
        ("/operator-policies/%2F/p", {"pattern": "a", "definition": {"overflow": "drop-head"}}, "not recognised oper"),
        ("/vhost-limits/%2F/nope", {"value": 1}, "no limit 'nope'"),
        ("/vhost-limits/%2F/max-queues", {"value": "many"}, "got `str` - at `$.value`"),
        ("/vhost-limits/%2F/max-queues", {}, "missing required field `value`"),
        ("/user-limits/guest/nope", {"value": 1}, "no limit 'nope'"),
        ("/user-limits/nobody/max-channels", {"value": 1}, "no user 'nobody'"),
        ("/parameters/nope/%2F/n", {"value": {}}, "component nope not found"),
        ("/parameters/policy/%2F/n", {"value": {}}, "policies may not be set using this method"),
        ("/parameters/shovel/%2F/n", {"value": 5}, "the value of a shovel is a JSON object"),
        ("/parameters/operator_policy/%2F/n", {"value": {}}, "missing required field `pattern`"),
        ("/parameters/vhost-limits/%2F/limits", {"value": {"max-queues": "x"}}, "value: Expected `int`"),
        ("/global-parameters/g", {}, "missing required field `value`"),
        ("/cluster-name", {"name": ""}, "cluster_name should be a text"),
        ("/auth/hash_password", {"password": "x", "hashing_algorithm": "md5"}, "hashing_algorithm is one of"),
    ],
)
def test_what_cannot_be_is_refused_with_a_word_on_what_is_wrong(path: str, body: Any, complaint: str, api: Api) -> None:
    answer = api.put(path, body)

    assert (answer.status, answer.body["error"]) == (400, "bad_request")
    assert complaint in answer.body["reason"]


@pytest.mark.parametrize("path", ["/vhosts/x", "/users/x", "/permissions/%2F/guest", "/policies/%2F/p"])
@pytest.mark.parametrize("raw", [b"{", b"[]", b"5", b"\xff", b'{"a":' * 2000])
def test_what_is_no_json_object_is_refused(path: str, raw: bytes, api: Api) -> None:
    answer = api.ask("PUT", path, raw=raw)

    assert (answer.status, answer.body["error"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "path",
    [
        "/vhosts/none",
        "/vhosts/none/permissions",
        "/vhosts/none/topic-permissions",
        "/users/none",
        "/users/none/permissions",
        "/users/none/topic-permissions",
        "/user-limits/none",
        "/permissions/none/guest",
        "/topic-permissions/%2F/none",
        "/policies/none",
        "/policies/%2F/none",
        "/operator-policies/%2F/none",
        "/vhost-limits/none",
        "/parameters/shovel/none",
        "/parameters/shovel/%2F/none",
        "/global-parameters/none",
        "/definitions/none",
    ],
)
def test_what_does_not_exist_is_not_found(path: str, api: Api) -> None:
    assert api.get(path).status == 404
