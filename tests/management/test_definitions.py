"""Definitions: what is exported can be imported, twice as well; what is wrong somewhere leaves nothing behind."""

from collections.abc import Mapping
from typing import Any

import pika
import pytest

from runtime.management.definitions.declaring import PREDECLARED
from runtime.management.definitions.file import Problems, read
from shards.model.exchanges.registry import PREDECLARED as PREDECLARED_BY_SHARDS
from tests.clients.running_broker import RunningBroker
from tests.management.api import Answer, Api

_SECTIONS = ("vhosts", "users", "permissions", "topic_permissions", "parameters", "policies", "global_parameters")
_DECLARED = ("queues", "exchanges", "bindings")


def queue(name: str, vhost: str = "made", **more: Any) -> dict[str, Any]:
    return {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {}} | more


def exchange(name: str, vhost: str = "made", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    } | more


def binding(source: str, destination: str, vhost: str = "made", **more: Any) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": vhost,
        "destination": destination,
        "destination_type": "queue",
        "routing_key": "",
        "arguments": {},
    } | more


EVERYTHING: Mapping[str, Any] = {
    "rabbit_version": "3.10.8",
    "users": [
        {
            "name": "ida",
            "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",  # of "test12", made by RabbitMQ
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["management"],
            "limits": {"max-channels": 50},
        }
    ],
    "vhosts": [{"name": "made", "metadata": {"description": "d", "tags": ["t"], "default_queue_type": "quorum"}}],
    "permissions": [{"user": "ida", "vhost": "made", "configure": "^ida", "write": ".*", "read": ""}],
    "topic_permissions": [{"user": "ida", "vhost": "made", "exchange": "amq.topic", "write": "a", "read": "b"}],
    "parameters": [
        {"component": "shovel", "vhost": "made", "name": "s", "value": {"src-uri": "amqp://"}},
        {"component": "vhost-limits", "vhost": "made", "name": "limits", "value": {"max-queues": 100}},
        {
            "component": "operator_policy",
            "vhost": "made",
            "name": "o",
            "value": {"pattern": "^a", "definition": {"max-length": 50}, "priority": 0, "apply-to": "all"},
        },
    ],
    "global_parameters": [{"name": "internal_cluster_id", "value": "id"}],
    "policies": [
        {
            "vhost": "made",
            "name": "p",
            "pattern": "^a",
            "apply-to": "queues",
            "definition": {"max-length": 5},
            "priority": 1,
        }
    ],
    "queues": [
        queue("a", arguments={"x-max-length": 5, "x-dead-letter-exchange": "nowhere"}),
        queue("transient", durable=False),
        queue("auto", auto_delete=True),
        queue("quorum", arguments={"x-queue-type": "quorum"}),
        queue("amq.gen-of-somebody"),
    ],
    "exchanges": [
        exchange("topics"),
        exchange("internal", type="headers", internal=True, arguments={"alternate-exchange": "amq.fanout"}),
        exchange("fleeting", durable=False, auto_delete=True),
    ],
    "bindings": [
        binding("topics", "a", routing_key="a.*"),
        binding("amq.topic", "a", routing_key="#"),
        binding("internal", "a", arguments={"x-match": "all", "n": 5, "f": 1.5, "b": True, "l": [1, "a"]}),
        binding("topics", "internal", destination_type="exchange", routing_key="b"),
    ],
}


def exported(api: Api, path: str = "/definitions") -> dict[str, Any]:
    answer = api.get(path)
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


def import_refused(api: Api, file: Mapping[str, Any], path: str = "/definitions") -> Answer:
    """Nothing has changed by it."""
    before = exported(api)
    answer = api.post(path, file)
    assert answer.status == 400, answer
    assert exported(api) == before
    return answer


@pytest.fixture(scope="module", autouse=True)
def imported(managed: RunningBroker) -> None:
    assert Api(managed.http_port).post("/definitions", EVERYTHING).status == 204


def test_everything_that_was_imported_is_exported_again(api: Api) -> None:
    found = exported(api)

    for section in (*_SECTIONS, *_DECLARED):
        for entry in EVERYTHING[section]:
            if section == "vhosts":
                entry = {**entry, **entry["metadata"]}
            assert entry in found[section]
    assert [name for name in found["queues"] if name["vhost"] != "made"] == []
    assert len(found["queues"]) == len(EVERYTHING["queues"])
    assert len(found["exchanges"]) == len(EVERYTHING["exchanges"])
    assert len(found["bindings"]) == len(EVERYTHING["bindings"])


def test_a_file_may_be_imported_twice_and_an_export_into_the_same_broker(api: Api) -> None:
    before = exported(api)

    assert api.post("/definitions", EVERYTHING).status == 204
    assert exported(api) == before
    assert api.post("/definitions", before).status == 204
    assert exported(api) == before


def test_an_imported_user_logs_in_with_the_password_it_had(api: Api) -> None:
    assert api.as_user("ida", "test12").get("/whoami").body == {"name": "ida", "tags": ["management"]}


def test_policies_of_the_file_hold_for_queues_of_the_file(api: Api) -> None:
    assert api.get("/queues/made/a").body["policy"] == "p"


def test_what_is_there_stays_as_it_is(api: Api) -> None:
    """As in RabbitMQ: importing is no way to declare something anew."""
    assert api.post("/definitions", {"queues": [queue("a", arguments={"x-max-length": 7})]}).status == 204

    assert api.get("/queues/made/a").body["arguments"]["x-max-length"] == 5


def test_one_virtual_host_can_be_copied_into_another(api: Api) -> None:
    file = exported(api, "/definitions/made")
    assert set(file) & {"users", "vhosts", "permissions", "global_parameters"} == set()
    assert all("vhost" not in entry for section in _DECLARED for entry in file[section])
    assert api.put("/vhosts/copy").status == 201

    assert api.post("/definitions/copy", file).status == 204

    copied = exported(api, "/definitions/copy")
    for section in _DECLARED:
        assert copied[section] == file[section]
    assert [policy["name"] for policy in copied["policies"]] == ["p"]
    assert api.delete("/vhosts/copy").status == 204


def test_a_file_may_come_in_a_form(api: Api) -> None:
    boundary = "----form"
    raw = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="d.json"\r\n'
        'Content-Type: application/json\r\n\r\n{"vhosts": [{"name": "formed"}]}\r\n'
        f"--{boundary}--\r\n"
    ).encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}

    assert api.ask("POST", "/definitions/upload", raw=raw, headers=headers).status == 204
    assert api.delete("/vhosts/formed").status == 204
    empty = api.ask("POST", "/definitions", raw=f"--{boundary}--\r\n".encode(), headers=headers)
    assert (empty.status, empty.body["reason"]) == (400, "there is no file in the form")


def test_an_export_can_be_saved_under_a_name(api: Api) -> None:
    saved = api.get('/definitions?download=my%20"file".json')

    assert saved.headers["content-disposition"] == 'attachment; filename="myfile.json"'


def test_a_file_name_keeps_what_a_header_can_carry(api: Api) -> None:
    saved = api.get("/definitions?download=%E8%BC%B6%C3%A4b.json")

    assert saved.headers["content-disposition"] == 'attachment; filename="b.json"'


def test_exclusive_queues_and_their_bindings_are_not_exported(api: Api, managed: RunningBroker) -> None:

    credentials = pika.PlainCredentials("guest", "guest")
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", managed.port, "/", credentials))
    channel = connection.channel()
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("mine", "amq.fanout")

    found = exported(api)
    connection.close()

    assert "mine" not in {entry["name"] for entry in found["queues"]}
    assert "mine" not in {entry["destination"] for entry in found["bindings"]}


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "complaints"),
    [
        ({"vhosts": 5}, {"vhosts": "is not an array"}),
        ({"vhosts": 0}, {"vhosts": "is not an array"}),
        ({"queues": None}, {"queues": "is not an array"}),
        ({"users": [{"name": "x"}]}, {"users[0] 'x'": "Object missing required field `tags`"}),
        ({"queues": [{"name": "x", "durable": True}]}, {"queues[0] 'x'": "has no vhost"}),
        ({"queues": [5]}, {"queues[0]": "Expected `object`, got `int`"}),
        (
            {"users": [{"name": "x", "tags": "", "password_hash": "zzz"}]},
            {"user 'x'": "password_hash is not base64"},
        ),
        (
            {"queues": [queue("x", "none")]},
            {"vhost 'none'": "no such vhost, neither here nor in the file"},
        ),
        (
            {
                "permissions": [{"user": "none", "vhost": "made", "configure": "", "write": "", "read": ""}],
                "policies": [{"name": "bad", "vhost": "made", "pattern": "a", "definition": {"nope": 1}}],
                "parameters": [{"component": "nope", "vhost": "made", "name": "n", "value": {}}],
            },
            {
                "permissions of user 'none' in vhost 'made'": "no user 'none' or no vhost 'made'",
                "policy 'bad' in vhost 'made'": "nope: not recognised policy settings",
                "parameter 'n' of nope in vhost 'made'": "component nope not found",
            },
        ),
        (
            {
                "bindings": [
                    binding("none", "a"),
                    binding("topics", "none"),
                    binding("topics", "a", destination_type="x"),
                ]
            },
            {
                "binding from 'none' to queue 'a' by '' in vhost 'made'": "no exchange 'none'",
                "binding from 'topics' to queue 'none' by '' in vhost 'made'": "no queue 'none'",
                "binding from 'topics' to x 'a' by '' in vhost 'made'": "destination_type 'x' is not one of",
            },
        ),
        (
            {"queues": [queue("large", arguments={"x": 2**70})]},
            {"queue 'large' in vhost 'made'": "cannot be encoded"},
        ),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_told_all_at_once(
    file: Mapping[str, Any], complaints: Mapping[str, str], api: Api
) -> None:
    answer = import_refused(api, {"global_parameters": [{"name": "left", "value": 1}], **file})

    told = {problem["where"]: problem["reason"] for problem in answer.body["problems"]}
    assert set(told) == set(complaints)
    assert all(complaints[where] in told[where] for where in complaints)
    assert answer.body["reason"].startswith("nothing was imported: ")


def test_what_a_virtual_host_refuses_undoes_all_that_was_declared(api: Api) -> None:
    """Also what lies in other virtual hosts, new ones among them, and what came before it in the same one."""
    file = {
        "users": [{"name": "left", "tags": "", "password_hash": ""}],
        "vhosts": [{"name": "fresh"}],
        "exchanges": [exchange("left", "fresh"), exchange("left"), exchange("bad", type="nope")],
        "queues": [
            queue("left", "fresh"),
            queue("left"),
            queue("bad", arguments={"x-max-length": "a"}),
            queue("also left"),
            queue("worse", arguments={"x-message-ttl": -1}),
        ],
        "bindings": [binding("left", "left", "fresh"), binding("left", "a"), binding("topics", "a", routing_key="new")],
    }

    answer = import_refused(api, file)

    told = {problem["where"]: problem["reason"] for problem in answer.body["problems"]}
    assert set(told) == {
        "exchange 'bad' in vhost 'made'",
        "queue 'bad' in vhost 'made'",
        "queue 'worse' in vhost 'made'",
    }
    assert "unknown exchange type 'nope'" in told["exchange 'bad' in vhost 'made'"]
    assert "invalid arg 'x-max-length'" in told["queue 'bad' in vhost 'made'"]


def test_a_body_that_is_no_file_is_refused(api: Api) -> None:
    for raw in (b"[]", b"{", b"\xff"):
        answer = api.ask("POST", "/definitions", raw=raw)
        assert (answer.status, answer.body["error"]) == (400, "bad_request")
    assert api.post("/definitions/none", {}).status == 404


# read without a broker ------------------------------------------------------------------------------------------------


def test_of_many_problems_the_first_are_told() -> None:
    problems = Problems()

    read({"queues": [5] * 1000}, problems)

    assert (problems.count, len(problems.found)) == (1000, 100)
    assert problems.found[0] == {"where": "queues[0]", "reason": "Expected `object`, got `int`"}


def test_a_file_for_one_virtual_host_is_about_that_one_whatever_it_says() -> None:
    problems = Problems()

    content = read({"users": 5, "queues": [queue("q", "other")]}, problems, vhost="made")

    assert problems.count == 0
    assert [(entry.vhost, entry.name) for entry in content.queues] == [("made", "q")]


def test_exchanges_that_every_virtual_host_has_are_those_of_the_shards() -> None:
    assert set(PREDECLARED) == {"", *PREDECLARED_BY_SHARDS}
