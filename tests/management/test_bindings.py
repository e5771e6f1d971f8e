"""`/api/bindings`, asked of a running broker."""

from typing import Any

import pika
import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Api

BETWEEN = "/bindings/%2F/e/amq.topic/q/q"


@pytest.fixture(autouse=True)
def queue(api: Api) -> None:
    """One without bindings, `q`."""
    api.delete("/queues/%2F/q")
    assert api.put("/queues/%2F/q", {"durable": True}).status == 201


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"routing_key": "k", "arguments": {}}, "q/k"),
        ({}, "q/~"),
        ({"routing_key": "a b#~/"}, "q/a%2Bb%2523%257E%252F"),
        ({"routing_key": "k", "arguments": []}, "q/k"),
    ],
)
def test_where_a_binding_is_can_be_followed(api: Api, body: dict[str, Any], location: str) -> None:
    answer = api.post(BETWEEN, body)
    path = f"/bindings/%2F/e/amq.topic/q/{answer.headers['location']}"

    assert (answer.status, answer.headers["location"]) == (201, location)
    assert api.get(path).body["routing_key"] == body.get("routing_key", "")
    assert api.delete(path).status == 204
    assert api.get(path).status == api.delete(path).status == 404


def test_bindings_with_arguments_are_told_apart(api: Api) -> None:
    locations = [
        api.post(BETWEEN, {"routing_key": "k", "arguments": arguments}).headers["location"]
        for arguments in ({"n": 1}, {"n": 1.5}, {"n": "1"})
    ]

    assert len(set(locations)) == 3
    assert api.delete(f"/bindings/%2F/e/amq.topic/q/{locations[1]}").status == 204
    assert [one["arguments"] for one in api.get(BETWEEN).body] in ([{"n": 1}, {"n": "1"}], [{"n": "1"}, {"n": 1}])


def test_a_binding_is_made_once(api: Api) -> None:
    for _ in range(2):
        assert api.post(BETWEEN, {"routing_key": "k"}).status == 201

    assert len(api.get(BETWEEN).body) == 1


def test_exchanges_are_bound_to_each_other(api: Api) -> None:
    path = "/bindings/%2F/e/amq.topic/e/amq.fanout"

    answer = api.post(path, {"routing_key": "k"})

    assert (answer.status, answer.headers["location"]) == (201, "amq.fanout/k")
    assert api.get(f"{path}/k").body["destination_type"] == "exchange"
    assert api.delete(f"{path}/k").status == 204
    assert api.get(path).body == []


def test_a_binding_is_taken_back_whose_arguments_json_cannot_say(api: Api, managed: RunningBroker) -> None:
    client = pika.BlockingConnection(pika.ConnectionParameters(port=managed.port))
    client.channel().queue_bind("q", "amq.headers", "k", arguments={"bytes": b"\xff"})
    client.close()
    (one,) = api.get("/bindings/%2F/e/amq.headers/q/q").body

    assert api.delete(f"/bindings/%2F/e/amq.headers/q/q/{one['properties_key']}").status == 204
    assert api.get("/bindings/%2F/e/amq.headers/q/q").body == []


def test_the_binding_nobody_made_is_shown_and_stays(api: Api) -> None:
    for source in ("amq.default", ""):
        (one,) = api.get(f"/bindings/%2F/e/{source}/q/q").body
        assert one["properties_key"] == "q"
    assert api.delete("/bindings/%2F/e/amq.default/q/q/q").status == 401
    assert api.post("/bindings/%2F/e/amq.default/q/q", {"routing_key": "k"}).status == 401


def test_all_bindings_are_listed(api: Api) -> None:
    api.post(BETWEEN, {"routing_key": "k"})

    everywhere, here = api.get("/bindings").body, api.get("/bindings/%2F").body

    assert everywhere == here
    assert {"source": "amq.topic", "destination": "q", "routing_key": "k"}.items() <= here[-1].items()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (BETWEEN, {"routing_key": 3}, 400),
        (BETWEEN, {"routing_key": "k" * 256}, 400),
        (BETWEEN, {"arguments": [1]}, 400),
        (BETWEEN, {"arguments": {"n": 10**30}}, 400),
        ("/bindings/%2F/e/amq.topic/z/q", {}, 400),
        ("/bindings/%2F/e/none/q/q", {}, 404),
        ("/bindings/%2F/e/amq.topic/q/none", {}, 404),
        ("/bindings/%2F/e/amq.topic/e/none", {}, 404),
        ("/bindings/none/e/amq.topic/q/q", {}, 404),
    ],
)
def test_a_binding_that_cannot_be_is_refused(api: Api, path: str, body: dict[str, Any], status: int) -> None:
    answer = api.post(path, body)

    assert answer.status == status
    assert set(answer.body) == {"error", "reason"}
    assert api.get(BETWEEN).body == []
