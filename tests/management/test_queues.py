"""`/api/queues`, asked of a running broker."""

import pika
import pytest

from tests.clients.running_broker import RunningBroker
from tests.management.api import Answer, Api


def publish(api: Api, queue: str, payload: str = "hello") -> None:
    message = {
        "properties": {"delivery_mode": 2},
        "routing_key": queue,
        "payload": payload,
        "payload_encoding": "string",
    }
    assert api.post("/exchanges/%2F/amq.default/publish", message).body == {"routed": True}


def reason(answer: Answer) -> str:
    return str(answer.body["reason"])


def test_a_queue_is_made_once_and_found_equal_after_that(api: Api) -> None:
    first = api.put("/queues/%2F/made", {"durable": True, "arguments": {"x-max-length": 5}})
    second = api.put("/queues/%2F/made", {"durable": "true", "arguments": {"x-max-length": 5}})
    third = api.put("/queues/%2F/made", {"durable": False})

    assert (first.status, second.status, third.status) == (201, 204, 400)
    assert first.headers["content-length"] == "0"
    assert reason(third).startswith("inequivalent arg 'durable' for queue 'made' in vhost '/'")
    assert api.get("/queues/%2F/made").body["arguments"] == {"x-max-length": 5}


def test_names_may_hold_any_character(api: Api) -> None:
    assert api.put("/queues/%2F/a%2Fb%20%C3%A4%3F", {"durable": True}).status == 201

    found = api.get("/queues/%2F/a%2Fb%20%C3%A4%3F")

    assert found.body["name"] == "a/b ä?"
    assert api.delete("/queues/%2F/a%2Fb%20%C3%A4%3F").status == 204


def test_a_list_is_a_page_in_order_with_the_columns_asked_for(api: Api) -> None:
    for number in range(3):
        api.put(f"/queues/%2F/page-{number}", {})
        for _ in range(number):
            publish(api, f"page-{number}")

    page = api.get(
        "/queues/%2F?page=1&page_size=2&name=page-&sort=messages&sort_reverse=true&columns=name,messages"
    ).body

    assert page["items"] == [{"name": "page-2", "messages": 2}, {"name": "page-1", "messages": 1}]
    assert (page["filtered_count"], page["item_count"], page["page_count"]) == (3, 2, 2)


def test_statistics_may_be_left_out(api: Api) -> None:
    api.put("/queues/%2F/brief", {"durable": True})

    brief = api.get("/queues/%2F/brief?disable_stats=true").body
    totals = api.get("/queues/%2F?name=brief&disable_stats=true&enable_queue_totals=true").body[0]

    definition = {"name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments", "node", "state"}
    assert set(brief) == definition
    assert set(totals) == definition | {"messages", "messages_ready", "messages_unacknowledged"}
    assert brief["node"].startswith("ebbmq@")


def test_a_queue_is_deleted_only_where_its_conditions_hold(api: Api) -> None:
    api.put("/queues/%2F/full", {"durable": True})
    publish(api, "full")

    assert api.delete("/queues/%2F/full?if-empty=true").status == 400
    assert api.get("/queues/%2F/full").status == 200
    assert api.delete("/queues/%2F/full?if-unused=true").status == 204
    assert api.delete("/queues/%2F/full").status == 404


def test_ready_messages_are_thrown_away_all_or_some(api: Api) -> None:
    api.put("/queues/%2F/purged", {"durable": True})
    for _ in range(5):
        publish(api, "purged")

    assert api.delete("/queues/%2F/purged/contents?count=2").status == 204
    assert api.get("/queues/%2F/purged").body["messages"] == 3
    assert api.delete("/queues/%2F/purged/contents").status == 204
    assert api.get("/queues/%2F/purged").body["messages"] == 0
    assert (
        api.delete("/queues/%2F/none/contents").status == api.delete("/queues/%2F/none/contents?count=1").status == 404
    )


def test_a_paused_queue_hands_nothing_out_until_it_is_resumed(api: Api) -> None:
    api.put("/queues/%2F/paused", {"durable": True})
    publish(api, "paused")

    assert api.put("/queues/%2F/paused/pause").status == 204
    assert api.get("/queues/%2F/paused").body["state"] == "paused"
    assert api.post("/queues/%2F/paused/get", {"count": 1, "ackmode": "ack_requeue_true"}).body == []
    assert api.put("/queues/%2F/paused/resume").status == 204
    assert len(api.post("/queues/%2F/paused/get", {"count": 1, "ackmode": "ack_requeue_true"}).body) == 1
    assert api.put("/queues/%2F/none/pause").status == 404


def test_no_queue_is_closed_or_out_of_step(api: Api) -> None:
    api.put("/queues/%2F/whole", {})

    assert api.put("/queues/%2F/whole/restart").status == 400
    assert api.put("/queues/%2F/none/restart").status == 404
    assert api.post("/queues/%2F/whole/actions", {"action": "sync"}).status == 204
    assert api.post("/queues/%2F/whole/actions", {"action": "fly"}).status == 400
    assert api.post("/queues/%2F/none/actions", {"action": "sync"}).status == 404


def test_what_is_handed_out_is_listed_for_its_queue(api: Api, managed: RunningBroker) -> None:
    api.put("/queues/%2F/busy", {"durable": True})
    publish(api, "busy")
    client = pika.BlockingConnection(pika.ConnectionParameters(port=managed.port))
    channel = client.channel()
    channel.basic_get("busy")
    channel.basic_consume("busy", lambda *_: None, consumer_tag="mine")

    (handed,) = api.get("/queues/%2F/busy/unacked").body
    alone = api.get("/queues/%2F/busy").body

    assert (handed["delivery_tag"], handed["consumer_tag"]) == (1, "")
    assert handed["channel_name"].endswith("(1)")
    assert (alone["message_bytes_unacknowledged"], alone["consumer_details"][0]["consumer_tag"]) == (5, "mine")
    assert api.get("/queues/%2F/busy?consumer_list_length=0").body["consumer_details"] == []
    assert api.get("/queues/%2F/none/unacked").status == 404
    client.close()


def test_the_bindings_of_a_queue_are_listed(api: Api) -> None:
    api.put("/queues/%2F/bound", {})
    api.post("/bindings/%2F/e/amq.topic/q/bound", {"routing_key": "k"})

    listed = api.get("/queues/%2F/bound/bindings").body

    assert [(one["source"], one["properties_key"]) for one in listed] == [("", "bound"), ("amq.topic", "k")]
    assert api.get("/queues/%2F/none/bindings").status == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"durable": "maybe"}', "$.durable"),
        (b'{"durable": 7}', "$.durable"),
        (b'{"arguments": [1]}', "$.arguments"),
        (b'{"arguments": {"x": 1%s}}' % (b"0" * 30), "64 bits"),
        (b'{"arguments": {"x-message-ttl": -1}}', "x-message-ttl"),
        (b'{"arguments": {"%s": 1}}' % (b"n" * 256), "256"),
        (b'{"arguments": {"x": "%s"}}' % (b"y" * 300_000), "frame_max"),
        (b'{"arguments": %s1%s}' % (b'{"t":' * 100, b"}" * 100), "levels"),
    ],
)
def test_a_queue_that_cannot_be_is_refused_with_the_reason(api: Api, body: bytes, told: str) -> None:
    answer = api.ask("PUT", "/queues/%2F/bad", raw=body)

    assert answer.status == 400
    assert told in reason(answer)
    assert api.get("/queues/%2F/bad").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/queues?page=0"),
        ("GET", "/queues?page=x"),
        ("GET", "/queues?page=999999999999999999999999"),
        ("GET", "/queues?page=1&page_size=501"),
        ("GET", "/queues?page=99"),
        ("GET", "/queues?name=(&use_regex=true"),
        ("GET", "/queues?use_regex=maybe"),
        ("GET", "/queues?disable_stats=maybe"),
        ("GET", "/queues/%2F/whole?consumer_list_length=-1"),
        ("PUT", "/queues/%2F/%FF"),
        ("PUT", "/queues/%2F/" + "n" * 256),
        ("DELETE", "/queues/%2F/whole?if-unused=maybe"),
        ("DELETE", "/queues/%2F/whole/contents?count=0"),
        ("DELETE", "/queues/%2F/whole/contents?count=" + "9" * 40),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(api: Api, method: str, path: str) -> None:
    answer = api.ask(method, path, raw=b"{}" if method == "PUT" else None)

    assert answer.status == 400, answer.body
    assert set(answer.body) == {"error", "reason"}
