"""What is going on, over the API: overview, nodes, who is connected, health, memory; and how to part with a client."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pika
import pika.exceptions
import pytest

from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.management.api import Api
from tests.management.conftest import add_user


@pytest.fixture
def connection(managed: RunningBroker) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(managed.url))
    yield connection
    if connection.is_open:
        connection.close()


def test_the_overview_counts_what_there_is_and_what_happened(api: Api, connection: Any) -> None:
    channel = connection.channel()
    channel.queue_declare("overviewed")
    before = api.get("/overview").body
    channel.confirm_delivery()
    for _ in range(5):
        channel.basic_publish("", "overviewed", b"dig")
    channel.basic_get("overviewed", auto_ack=True)

    after = api.get("/overview").body

    assert after["object_totals"]["queues"] >= 1
    assert after["object_totals"]["connections"] >= 1
    gained = {
        name: after["message_stats"][name] - before["message_stats"].get(name, 0)
        for name in ("publish", "confirm", "get_no_ack", "deliver_get")
    }
    assert gained == {"publish": 5, "confirm": 5, "get_no_ack": 1, "deliver_get": 1}
    assert after["queue_totals"]["messages_ready"] - before["queue_totals"]["messages_ready"] == 4
    assert set(after["message_stats"]["publish_details"]) == {"rate", "log"}
    assert {one["protocol"] for one in after["listeners"]} == {"amqp", "http"}


def test_the_node_says_what_its_processes_use(api: Api) -> None:
    (node,) = api.get("/nodes").body

    assert node["running"] is True
    assert (node["mem_alarm"], node["disk_free_alarm"]) == (False, False)
    assert 10_000_000 < node["mem_used"] < node["mem_limit"]
    assert 10 < node["fd_used"] < node["fd_total"]
    assert [shard["shard"] for shard in node["shards"]] == [0, 1]
    assert api.get(f"/nodes/{quote(node['name'])}").status == 200
    assert api.get("/nodes/ebbmq@elsewhere").status == 404
    memory = api.get(f"/nodes/{quote(node['name'])}/memory").body["memory"]
    assert memory["total"]["rss"] >= sum(value for value in memory.values() if isinstance(value, int)) > 0


def test_a_connection_is_shown_and_its_client_told_why_it_is_closed(api: Api, connection: Any) -> None:
    channel = connection.channel()
    (shown,) = (one for one in api.get("/connections").body if one["client_properties"].get("product"))
    assert (shown["user"], shown["vhost"], shown["state"], shown["channels"]) == ("guest", "/", "running", 1)
    assert shown["recv_oct"] >= 13  # channel.open; the negotiation is not the shard's
    name = quote(shown["name"], safe="")
    (listed,) = api.get(f"/connections/{name}/channels").body
    assert listed["number"] == channel.channel_number

    closed = api.ask("DELETE", f"/connections/{name}", headers={"X-Reason": "maintenance"})

    assert closed.status == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as told:
        connection.process_data_events(time_limit=10)
    assert told.value.reply_code == 320
    assert "maintenance" in told.value.reply_text
    eventually(lambda: api.get(f"/connections/{name}").status == 404, "the connection is gone")
    assert api.ask("DELETE", f"/connections/{name}").status == 404


def test_who_does_not_monitor_sees_its_own_connections_only(managed: RunningBroker, connection: Any) -> None:
    alone = add_user(managed, "alone", "management")
    watching = add_user(managed, "watching", "monitoring")
    managed.permit("alone", "/", configure=".*", write=".*", read=".*")
    url = managed.url.replace("guest:guest", "alone:secret")
    with pika.BlockingConnection(pika.URLParameters(url)):
        assert {one["user"] for one in alone.get("/connections").body} == {"alone"}
        assert {one["user"] for one in watching.get("/connections").body} >= {"alone", "guest"}
        theirs = next(one["name"] for one in watching.get("/connections").body if one["user"] == "guest")
        for caller in (alone, watching):  # whoever may look may not close
            assert caller.ask("DELETE", f"/connections/{quote(theirs, safe='')}").status == 401
        assert watching.ask("DELETE", "/connections/username/alone").status == 401
        assert watching.put(f"/channels/{quote(theirs, safe='')}%20%281%29", {"prefetch": 1}).status in (401, 404)


def test_prefetch_of_consumers_to_come_can_be_changed(api: Api, connection: Any) -> None:
    channel = connection.channel()
    channel.basic_qos(prefetch_count=7)
    (shown,) = (one for one in api.get("/channels").body if one["prefetch_count"] == 7)
    path = f"/channels/{quote(shown['name'], safe='')}"

    assert api.put(path, {"prefetch": 3}).status == 204
    assert api.get(path).body["prefetch_count"] == 3
    assert api.put(path, {"prefetch": 70_000}).status == 400
    assert api.put(path, {}).status == 400


def test_a_consumer_is_shown_and_told_that_it_is_cancelled(api: Api, connection: Any) -> None:
    channel = connection.channel()
    channel.queue_declare("consumed")
    told: list[Any] = []
    channel.add_on_cancel_callback(told.append)
    channel.basic_consume("consumed", lambda *_: None, consumer_tag="a/b")
    (shown,) = (one for one in api.get("/consumers/%2F").body if one["consumer_tag"] == "a/b")
    assert (shown["queue"]["name"], shown["ack_required"], shown["active"]) == ("consumed", True, True)
    details = shown["channel_details"]
    path = f"/consumers/%2F/{quote(details['connection_name'], safe='')}/{details['number']}/a%2Fb"

    assert api.delete(path).status == 204

    eventually(lambda: connection.process_data_events(time_limit=0.1) or told, "the consumer is told")
    assert api.delete(path).status == 404


@pytest.mark.parametrize(
    ("check", "status"),
    [
        ("alarms", 200),
        ("local-alarms", 200),
        ("virtual-hosts", 200),
        ("ready", 200),
        ("node-is-quorum-critical", 200),
        ("node-is-mirror-sync-critical", 200),
        ("protocol-listener/amqp", 200),
        ("protocol-listener/amqp091", 200),
        ("protocol-listener/mqtt", 503),
        ("port-listener/1", 503),
        ("port-listener/none", 404),
        ("certificate-expiration/3/months", 200),
        ("certificate-expiration/3/fortnights", 400),
        ("certificate-expiration/99999999999/years", 400),
    ],
)
def test_health_checks_say_yes_or_no(api: Api, check: str, status: int) -> None:
    answer = api.get(f"/health/checks/{check}")

    assert answer.status == status, answer
    assert answer.body["status" if status != 404 and status != 400 else "error"]


def test_the_port_that_is_listened_on_is_found(managed: RunningBroker, api: Api) -> None:
    assert api.get(f"/health/checks/port-listener/{managed.port}").body == {"status": "ok", "port": managed.port}


def test_a_message_comes_through(api: Api) -> None:
    assert api.get("/aliveness-test/%2F").body == {"status": "ok"}
    assert api.get("/aliveness-test/nope").status == 404


def test_memory_is_accounted_for_and_given_back(managed: RunningBroker, api: Api) -> None:
    found = api.get("/memory?top=2").body
    assert {one["role"] for one in found["processes"]} >= {"supervisor", "template"}
    assert [one["shard"] for one in found["shards"]] == [0, 1]
    assert found["silent"] == []
    foretold = api.get("/memory/dry-run?level=release").body
    assert [one["shard"] for one in foretold["shards"]] == [0, 1]
    assert [one["role"] for one in foretold["processes"]] == ["supervisor"]

    done = api.post("/memory/compact", {"level": "trim"})

    assert done.status == 200
    assert [one["shard"] for one in done.body["reclaimed"]] == [None, None, 0, 1]
    assert [one["role"] for one in done.body["reclaimed"]] == ["management", "supervisor", "shard", "shard"]
    assert api.get("/memory/passes").body[-1]["number"] == done.body["number"]
    assert sum(one["count"] for one in api.get("/memory/metrics").body["passes"]) >= 1
    assert api.post("/nodes/gc_collect").status == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/memory/dry-run?level=much", None),
        ("GET", "/memory?top=-1", None),
        ("GET", "/memory/passes?last=0", None),
        ("POST", "/memory/compact", {"level": "much"}),
        ("POST", "/vhosts/%2F/move", {"shard": 2}),
        ("POST", "/vhosts/%2F/move", {"shard": "first"}),
        ("POST", "/vhosts/%2F/move", {}),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(api: Api, method: str, path: str, body: Any) -> None:
    answer = api.ask(method, path, body)

    assert answer.status == 400
    assert set(answer.body) == {"error", "reason"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nodes"),
        ("GET", "/nodes/x"),
        ("GET", "/nodes/x/settings"),
        ("PUT", "/nodes/x/alarms"),
        ("PUT", "/nodes/x/listeners/open"),
        ("GET", "/memory"),
        ("GET", "/memory/passes"),
        ("GET", "/shards"),
        ("POST", "/memory/compact"),
        ("POST", "/nodes/gc_collect"),
        ("POST", "/vhosts/%2F/move"),
    ],
)
def test_what_takes_a_tag_is_refused_to_who_lacks_it(managed: RunningBroker, method: str, path: str) -> None:
    managers = Api(managed.http_port, "plain", "secret")
    if managers.get("/whoami").status == 401:
        add_user(managed, "plain", "management")

    assert managers.ask(method, path, {} if method == "POST" else None).status == 401


def test_nobody_without_a_tag_gets_in(managed: RunningBroker) -> None:
    assert add_user(managed, "untagged").get("/whoami").status == 401


def test_a_vhost_moves_to_another_shard_with_what_is_in_it(managed: RunningBroker, api: Api) -> None:
    managed.add_vhost("moving", shard=0)
    url = managed.url.removesuffix("/%2F") + "/moving"
    with pika.BlockingConnection(pika.URLParameters(url)) as before:
        channel = before.channel()
        channel.queue_declare("kept", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "kept", b"here", pika.BasicProperties(delivery_mode=2))

    assert api.post("/vhosts/moving/move", {"shard": 1}).status == 204

    assert [shard["vhosts"] for shard in api.get("/shards").body][1] >= 1
    with pika.BlockingConnection(pika.URLParameters(url)) as after:
        assert after.channel().basic_get("kept", auto_ack=True)[2] == b"here"
    managed.await_log("vhost closed")
