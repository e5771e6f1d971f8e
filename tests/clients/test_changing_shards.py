"""A broker started again with more shards, and with fewer: everything durable is there, and where it belongs."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pika
import pytest

from runtime.decisions.placement import preferred_shard
from tests.clients.conftest import StartBroker
from tests.clients.running_broker import RunningBroker
from tests.management.api import Api

VHOSTS = ("/", "orders", "a/b", "größer", "e", "h")
PERSISTENT = pika.BasicProperties(delivery_mode=2, headers={"of": "before"})
LARGE = bytes(300_000)


class World:
    """A broker with something of everything in each vhost, and what there has to be in it."""

    def __init__(self, broker: RunningBroker) -> None:
        self.broker = broker
        self.expected: dict[str, list[bytes]] = {}
        self.definitions: dict[str, Any] = {}
        self.rounds = Counter[str]()
        self._log_begins = 0

    @property
    def api(self) -> Api:
        return Api(self.broker.http_port)

    def fill(self, vhost: str) -> None:
        if vhost != "/":
            made = {"description": f"about {vhost}", "tags": "moves", "default_queue_type": "classic"}
            assert self.api.put(f"/vhosts/{quote(vhost, safe='')}", made).status == 201
        name = quote(vhost, safe="")
        policy = {"pattern": "^jobs", "definition": {"max-length": 10_000}, "apply-to": "queues"}
        assert self.api.put(f"/policies/{name}/long", policy).status == 201
        assert self.api.put(f"/vhost-limits/{name}/max-queues", {"value": 50}).status == 204
        worker = {"configure": "^jobs", "write": ".*", "read": ".*"}
        assert self.api.put(f"/permissions/{name}/worker", worker).status == 201
        with closing(connect(self.broker, vhost)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.exchange_declare("work", "topic", durable=True)
            channel.queue_declare("jobs", durable=True)
            channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_declare("priorities", durable=True, arguments={"x-max-priority": 5})
            channel.queue_bind("jobs", "work", "jobs.#", arguments={"why": "kept"})
            channel.exchange_bind("work", "amq.fanout")
        self.expected[vhost] = []

    def publish(self, vhost: str, what: str) -> None:
        """To one queue through an exchange, some of it large; what was taken and acknowledged is not to come back."""
        bodies = [f"{what} {number} in {vhost}".encode() for number in range(20)] + [LARGE]
        with closing(connect(self.broker, vhost)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for body in bodies:
                channel.basic_publish("work", "jobs.now", body, PERSISTENT, mandatory=True)
            channel.basic_publish("", "quorum", what.encode(), PERSISTENT)
            taken = [channel.basic_get("jobs") for _ in range(3)]
            for method, _properties, _body in taken:
                channel.basic_ack(method.delivery_tag)
        self.expected[vhost] = [*self.expected[vhost], *bodies][3:]
        self.rounds[vhost] += 1

    def note(self) -> None:
        """What is declared and laid down now is to be there later."""
        self.definitions = definitions(self.api)

    def restart(self, shards: int) -> None:
        assert self.broker.stop() == 0, self.broker.log
        self.broker.assert_no_traceback()
        self.broker.shards = shards
        self._log_begins = len(self.broker.log)
        self.broker.start()
        assert sorted(self.broker.ready.shards) == list(range(shards))

    def check(self) -> None:
        assert definitions(self.api) == self.definitions
        assert set(self.expected) == {vhost["name"] for vhost in self.api.get("/vhosts").body}
        for vhost, bodies in self.expected.items():
            with closing(connect(self.broker, vhost, "worker", "secret")) as connection:
                channel = connection.channel()
                found = [channel.basic_get("jobs") for _ in range(len(bodies) + 1)]
                assert [body for _method, _properties, body in found] == [*bodies, None], vhost
                assert {properties.headers["of"] for _method, properties, _body in found[:-1]} == {"before"}
                assert channel.queue_declare("quorum", passive=True).method.message_count == self.rounds[vhost]
            # The connection took nothing for good, so everything is back in its place.

    def places(self) -> dict[str, int]:
        """The shard that opened each vhost last, as the log says it."""
        lines = [json.loads(line) for line in self.broker.log[self._log_begins :].splitlines() if line.startswith("{")]
        return {line["vhost"]: line["shard"] for line in lines if line["event"] == "vhost opened"}

    def vhosts_by_shard(self) -> dict[int, int]:
        return {shard["shard"]: shard["vhosts"] for shard in self.api.get("/shards").body}


def definitions(api: Api) -> dict[str, Any]:
    """Whatever their order."""
    body = api.get("/definitions").body
    return {
        section: sorted(map(repr, entries)) if isinstance(entries, list) else entries
        for section, entries in body.items()
    }


def connect(broker: RunningBroker, vhost: str, user: str = "guest", password: str = "guest") -> Any:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, vhost, credentials))


@pytest.fixture
def world(new_broker: StartBroker) -> Iterator[World]:
    arguments = ("--set", "management.port=0", "--set", "management.metrics_port=-1", "--log-format", "json")
    world = World(new_broker(shards=1, arguments=arguments).start())
    assert world.api.put("/users/worker", {"password": "secret", "tags": "management"}).status == 201
    assert world.api.put("/user-limits/worker/max-connections", {"value": 100}).status == 204
    assert world.api.put("/global-parameters/motto", {"value": {"ebb": "and flow"}}).status == 201
    yield world
    assert world.broker.stop() == 0, world.broker.log
    world.broker.assert_no_traceback()


def test_one_shard_becomes_four_and_then_two_with_everything_where_it_belongs(world: World) -> None:
    """A vhost moves only when its shard is gone; the others stay where they were, or were put by hand."""
    for vhost in VHOSTS:
        world.fill(vhost)
        world.publish(vhost, "first")
    world.note()
    assert world.places() == dict.fromkeys(VHOSTS, 0)

    world.restart(4)

    world.check()
    assert world.places() == dict.fromkeys(VHOSTS, 0)
    moved = {vhost: number % 4 for number, vhost in enumerate(VHOSTS) if vhost != "h"}
    for vhost, shard in moved.items():
        assert world.api.post(f"/vhosts/{quote(vhost, safe='')}/move", {"shard": shard}).status == 204
    world.fill("late")  # wherever it belongs by itself
    for vhost in (*VHOSTS, "late"):
        world.publish(vhost, "second")
    world.note()
    placed = {"h": 0, **moved, "late": preferred_shard("late", 4)}
    assert world.places() == placed
    assert sum(world.vhosts_by_shard().values()) == len(placed)

    world.restart(2)

    world.check()
    expected = {vhost: shard if shard < 2 else preferred_shard(vhost, 2) for vhost, shard in placed.items()}
    assert world.places() == expected
    counts = {shard: list(expected.values()).count(shard) for shard in range(2)}
    assert world.vhosts_by_shard() == counts

    world.restart(1)
    world.check()
    assert world.vhosts_by_shard() == {0: len(placed)}
