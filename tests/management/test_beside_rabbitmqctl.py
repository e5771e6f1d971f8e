"""The same commands to RabbitMQ by rabbitmqctl and to a broker by ebbmqctl, where rabbitmq-server is installed.

Both are filled alike; what a command prints, line by line, must be the same, whatever the order.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pika
import pytest

from bench.fresh_rabbitmq import RabbitMQNode, find_version
from tests.clients.running_broker import RunningBroker
from tests.management.ebbmqctl import ctl

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_version() is None, reason="Debian's rabbitmq-server is not installed"),
]

Ask = Callable[..., "subprocess.CompletedProcess[str]"]

FILLING = (
    ("add_vhost", "shop", "--description", "of all sorts", "--tags", "a,b"),
    ("set_vhost_tags", "shop", "c", "d"),
    ("add_user", "ann", "secret"),
    ("add_user", "bob", "secret"),
    ("set_user_tags", "ann", "monitoring", "management"),
    ("set_permissions", "ann", "^a", ".*", ""),
    ("set_permissions", "-p", "shop", "ann", "", "", "^x"),
    ("set_topic_permissions", "ann", "amq.topic", "^a", ".*"),
    ("set_user_limits", "ann", '{"max-connections": 5}'),
    ("set_vhost_limits", '{"max-queues": 500}'),
    ("set_policy", "short", "^o", '{"max-length": 7}', "--apply-to", "queues", "--priority", "3"),
    ("set_operator_policy", "calm", ".*", '{"message-ttl": 100000000}', "--apply-to", "queues"),
    ("set_global_parameter", "anything", '{"a": [1, "b"]}'),
)
SAME = (
    ("list_queues",),
    ("list_queues", "-s", "name", "messages_ready"),
    ("list_queues", "name", "messages", "messages_ready", "messages_unacknowledged", "consumers", "durable"),
    ("list_queues", "name", "auto_delete", "exclusive", "arguments", "policy", "type", "state"),
    ("list_queues", "-p", "shop"),
    ("list_users",),
    ("list_users", "--no-table-headers", "--formatter", "table"),
    ("list_permissions", "-p", "shop", "-q"),
    ("list_user_permissions", "ann"),
    ("list_topic_permissions",),
    ("list_vhosts", "name", "tags", "tracing"),
    ("list_bindings",),
    ("list_exchanges", "name", "type", "durable", "auto_delete", "internal", "arguments", "policy"),
    ("list_consumers", "queue_name", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments"),
    ("list_connections", "user", "peer_host", "state", "vhost", "channels"),
    ("list_channels", "user", "number", "consumer_count", "messages_unacknowledged", "confirm", "transactional"),
    ("list_policies",),
    ("list_operator_policies",),
    ("list_global_parameters",),
    ("list_vhost_limits",),
    ("list_vhost_limits", "--global"),
    ("list_user_limits", "--user", "ann"),
    ("autocomplete", "list_p"),
)
SAME_IN_JSON = (
    ("list_queues", "name", "messages", "durable"),
    ("list_users",),
    ("list_policies",),
    ("list_bindings", "source_name", "source_kind", "destination_name", "destination_kind", "routing_key"),
    ("list_vhost_limits", "--global"),
)
REFUSED_BY_BOTH = (
    ("add_user", "ann", "again"),
    ("delete_user", "nobody"),
    ("purge_queue", "nothing"),
    ("set_policy", "p", "(", "{}"),
    ("clear_policy", "nothing"),
    ("list_permissions", "-p", "nowhere"),
    ("list_queues", "nonsense"),
    ("authenticate_user", "ann", "wrong"),
    ("join_cluster", "rabbit@elsewhere"),
    ("await_online_nodes", "2", "-t", "1"),
    ("enable_feature_flag", "nonsense"),
)


class Both(NamedTuple):
    theirs: Ask
    ours: Ask


def connected(port: int) -> pika.BlockingConnection:
    client = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
    channel = client.channel()
    channel.confirm_delivery()
    channel.queue_declare("one", durable=True, arguments={"x-max-length": 5, "x-dead-letter-exchange": "x"})
    channel.queue_declare("two", auto_delete=True)
    channel.exchange_declare("topics", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.queue_bind("one", "topics", "a.#", arguments={"n": 1, "s": "x", "t": True})
    for _ in range(3):
        channel.basic_publish("", "one", b"x")
    channel.basic_qos(prefetch_count=7)
    channel.basic_consume("two", lambda *_: None, consumer_tag="tag", arguments={"x-priority": 2})
    return client


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    node = RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"))
    broker = RunningBroker(
        tmp_path_factory.mktemp("ebbmq"),
        arguments=("--set", "management.port=0", "--set", "management.metrics_port=-1"),
    )
    try:
        node.start()
        broker.start()
        asked = Both(node.ctl, lambda *arguments: ctl(broker, *arguments))
        with connected(node.port), connected(broker.port):
            for arguments in FILLING:
                for ask in asked:
                    done = ask(*arguments)
                    assert done.returncode == 0, done
            yield asked
        assert broker.stop() == 0
        broker.assert_no_traceback()
    finally:
        node.stop()
        broker.end_by_force()


def lines(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Without what only one of them has: a word on timeouts, and an exchange for traces."""
    assert done.returncode == 0, done
    kept = [line for line in done.stdout.splitlines() if not line.startswith(("Timeout: ", "amq.rabbitmq.trace\t"))]
    return [line for line in kept if "internal_cluster_id" not in line]


@pytest.mark.parametrize("arguments", SAME, ids=" ".join)
def test_what_is_printed_is_the_same(both: Both, arguments: tuple[str, ...]) -> None:
    assert sorted(lines(both.ours(*arguments))) == sorted(lines(both.theirs(*arguments)))


@pytest.mark.parametrize("arguments", SAME_IN_JSON, ids=" ".join)
def test_json_is_the_same(both: Both, arguments: tuple[str, ...]) -> None:
    def found(ask: Ask) -> list[Any]:
        done = ask(*arguments, "--formatter", "json")
        assert done.returncode == 0, done
        return sorted(json.loads(done.stdout), key=repr)

    assert found(both.ours) == found(both.theirs)


@pytest.mark.parametrize("arguments", REFUSED_BY_BOTH, ids=" ".join)
def test_what_one_refuses_the_other_does_too(both: Both, arguments: tuple[str, ...]) -> None:
    for ask in both:
        done = ask(*arguments)
        assert done.returncode != 0, done
        assert done.stderr


def test_status_has_rabbitmqctls_keys(both: Both) -> None:
    ours, theirs = (json.loads(ask("status", "--formatter", "json").stdout) for ask in (both.ours, both.theirs))

    of_erlang = {"crypto_lib_version", "enabled_plugin_file", "erlang_version", "net_ticktime", "raft_data_directory"}
    assert theirs.keys() - ours.keys() == of_erlang | {"release_series_support_status"}
    for key in ("totals", "file_descriptors", "processes"):
        assert ours[key].keys() == theirs[key].keys(), key
    assert ours["listeners"][0].keys() == theirs["listeners"][0].keys()
    assert ours["totals"] == theirs["totals"]
    ours, theirs = (json.loads(ask("cluster_status", "--formatter", "json").stdout) for ask in (both.ours, both.theirs))
    assert ours.keys() == theirs.keys()
