"""Messages published and taken by hand."""

import base64
import socket
from typing import Any

import pytest

from ipc.settings import ManagementSettings
from tests.clients.running_broker import RunningBroker
from tests.management.api import Api
from tests.management.conftest import PASSWORD, add_user

PUBLISH = "/exchanges/%2F/amq.default/publish"


@pytest.fixture(autouse=True)
def queue(api: Api) -> None:
    """An empty one, `q`."""
    api.delete("/queues/%2F/q")
    assert api.put("/queues/%2F/q", {"durable": True}).status == 201


def message(**changes: Any) -> dict[str, Any]:
    return {"properties": {}, "routing_key": "q", "payload": "hello", "payload_encoding": "string"} | changes


def publish(api: Api, **changes: Any) -> None:
    answer = api.post(PUBLISH, message(**changes))
    assert (answer.status, answer.body) == (200, {"routed": True})


def taken(api: Api, **changes: Any) -> list[dict[str, Any]]:
    answer = api.post("/queues/%2F/q/get", {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"} | changes)
    assert answer.status == 200, answer.body
    return list(answer.body)


def ready(api: Api) -> int:
    return int(api.get("/queues/%2F/q").body["messages_ready"])


def test_a_message_comes_as_it_was_published(api: Api) -> None:
    properties = {
        "delivery_mode": 2,
        "headers": {"number": 1.1, "nested": {"list": [1, "x", None, True]}},
        "timestamp": 1_700_000_000,
        "message_id": "m",
        "priority": 3,
    }
    publish(api, properties=properties)

    (one,) = taken(api)

    assert one["properties"] == properties
    assert (one["payload"], one["payload_encoding"], one["payload_bytes"]) == ("hello", "string", 5)
    assert (one["exchange"], one["routing_key"], one["redelivered"], one["message_count"]) == ("", "q", False, 0)


def test_a_message_bears_the_name_of_who_publishes_it_unless_that_is_an_impersonator(
    managed: RunningBroker, api: Api
) -> None:
    """The tag counts from the next request on, as does its loss; RabbitMQ answers 400 as well."""
    ida = add_user(managed, "ida", "management")
    managed.permit("ida", "/", configure=".*", write=".*", read=".*")
    publish(ida, properties={"user_id": "ida"})
    refused = ida.post(PUBLISH, message(properties={"user_id": "guest"}))
    assert api.put("/users/ida", {"password": PASSWORD, "tags": "management,impersonator"}).status == 204
    publish(ida, properties={"user_id": "otto"})
    assert api.put("/users/ida", {"password": PASSWORD, "tags": "management"}).status == 204
    refused_again = ida.post(PUBLISH, message(properties={"user_id": "otto"}))

    told = "user_id property set to '{}' but authenticated user was 'ida'"
    assert (refused.status, refused.body["reason"]) == (400, told.format("guest"))
    assert (refused_again.status, refused_again.body["reason"]) == (400, told.format("otto"))
    assert [one["properties"]["user_id"] for one in taken(api)] == ["ida", "otto"]


def test_what_no_queue_takes_is_not_routed(api: Api) -> None:
    assert api.post(PUBLISH, message(routing_key="nowhere")).body == {"routed": False}


def test_what_is_no_text_comes_in_base64(api: Api) -> None:
    publish(api, payload=base64.b64encode(b"\xff\x00").decode(), payload_encoding="base64")
    publish(api, payload="text")

    shown = [(one["payload"], one["payload_encoding"]) for one in taken(api)]
    encoded = [(one["payload"], one["payload_encoding"]) for one in taken(api, encoding="base64")]

    assert shown == [("/wA=", "base64"), ("text", "string")]
    assert encoded == [("/wA=", "base64"), ("dGV4dA==", "base64")]


def test_a_long_payload_is_cut_where_that_is_asked_for(api: Api) -> None:
    publish(api, payload="x" * 300_000)

    (one,) = taken(api, truncate=5)

    assert (one["payload"], one["payload_bytes"]) == ("xxxxx", 300_000)


@pytest.mark.parametrize("mode", ["ack_requeue_true", "reject_requeue_true"])
def test_messages_go_back_to_their_place(api: Api, mode: str) -> None:
    for payload in ("a", "b", "c"):
        publish(api, payload=payload)

    assert [one["payload"] for one in taken(api, count=2, ackmode=mode)] == ["a", "b"]
    assert [(one["payload"], one["redelivered"]) for one in taken(api)] == [("a", True), ("b", True), ("c", False)]


@pytest.mark.parametrize("said", [{"ackmode": "ack_requeue_false"}, {"ackmode": "reject_requeue_false"}])
def test_messages_are_gone_where_they_do_not_go_back(api: Api, said: dict[str, str]) -> None:
    for payload in ("a", "b", "c"):
        publish(api, payload=payload)

    assert [one["payload"] for one in taken(api, count=2, **said)] == ["a", "b"]
    assert [one["payload"] for one in taken(api)] == ["c"]


def test_lavinmqs_words_for_it_are_understood(api: Api) -> None:
    publish(api)

    assert len(api.post("/queues/%2F/q/get", {"requeue": True}).body) == 1
    assert len(api.post("/queues/%2F/q/get", {"ack_mode": "reject_requeue_true"}).body) == 1
    assert len(api.post("/queues/%2F/q/get", {"ack_mode": "get"}).body) == 1
    assert ready(api) == 0


def test_rejected_messages_go_to_the_dead_letter_exchange(api: Api) -> None:
    api.put("/queues/%2F/grave", {"durable": True})
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "grave"}
    api.put("/queues/%2F/mortal", {"durable": True, "arguments": arguments})
    publish(api, routing_key="mortal")

    api.post("/queues/%2F/mortal/get", {"count": 1, "ackmode": "reject_requeue_false"})

    (dead,) = api.post("/queues/%2F/grave/get", {"count": 1, "ackmode": "ack_requeue_false"}).body
    assert dead["properties"]["headers"]["x-death"][0]["reason"] == "rejected"


def test_an_answer_holds_no_more_than_fits_and_the_rest_stays(api: Api) -> None:
    large = "x" * (15 << 20)
    for _ in range(3):
        publish(api, payload=large)

    assert len(taken(api, ackmode="ack_requeue_false")) == 2
    assert ready(api) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"payload": "%%%", "payload_encoding": "base64"}, "not base64"),
        ({"payload_encoding": "rot13"}, "payload_encoding"),
        ({"payload": 7}, "$.payload"),
        ({"routing_key": 7}, "$.routing_key"),
        ({"routing_key": "k" * 256}, "255"),
        ({"properties": "none"}, "$.properties"),
        ({"properties": {"delivery_mode": 3}}, "$.properties.delivery_mode"),
        ({"properties": {"priority": 256}}, "$.properties.priority"),
        ({"properties": {"timestamp": "yesterday"}}, "$.properties.timestamp"),
        ({"properties": {"timestamp": 10**30}}, "timestamp"),
        ({"properties": {"expiration": "soon"}}, "expiration"),
        ({"properties": {"user_id": "somebody"}}, "user_id"),
        ({"properties": {"headers": [1]}}, "$.properties.headers"),
        ({"properties": {"headers": {"n": 10**30}}}, "64 bits"),
        ({"properties": {"headers": {"n": "x" * 200_000}}}, "frame"),
    ],
)
def test_a_message_that_cannot_be_is_refused_and_published_nowhere(
    api: Api, changes: dict[str, Any], told: str
) -> None:
    answer = api.post(PUBLISH, message(**changes))

    assert answer.status == 400
    assert told in answer.body["reason"]
    assert ready(api) == 0


@pytest.mark.parametrize("missing", ["routing_key", "payload", "payload_encoding", "properties"])
def test_all_of_a_message_has_to_be_said(api: Api, missing: str) -> None:
    said = message()
    del said[missing]

    answer = api.post(PUBLISH, said)

    assert (answer.status, missing in answer.body["reason"]) == (400, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": -1},
        {"count": "many"},
        {"count": 1.5},
        {"ackmode": "perhaps"},
        {"ackmode": None},
        {"encoding": "rot13"},
        {"truncate": -1},
        {"truncate": "x"},
    ],
)
def test_taking_that_makes_no_sense_takes_nothing(api: Api, changes: dict[str, Any]) -> None:
    publish(api)
    said = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"} | changes

    assert api.post("/queues/%2F/q/get", said).status == 400
    assert ready(api) == 1


def test_there_is_no_publishing_to_or_taking_from_what_is_not_there(api: Api) -> None:
    assert api.post("/exchanges/%2F/none/publish", message()).status == 404
    assert api.post("/exchanges/none/amq.topic/publish", message()).status == 404
    assert api.post("/queues/%2F/none/get", {"count": 1, "ackmode": "ack_requeue_true"}).status == 404


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(api: Api) -> None:
    length = ManagementSettings().body_bytes_max + 1
    authorization = f"Basic {base64.b64encode(b'guest:guest').decode()}"
    head = (
        f"POST /api{PUBLISH} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")
