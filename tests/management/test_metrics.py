"""Metrics as Prometheus reads them: both formats are parsed, counters count, single things are told apart."""

import http.client
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK, Api
from tests.management.conftest import add_user

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """A broker that tells metrics on a port of their own, too, which is found by trying: the log does not name it."""
    port = _free_port()
    arguments = ("--set", "management.port=0", "--set", f"management.metrics_port={port}")
    broker = RunningBroker(tmp_path_factory.mktemp("scraped"), arguments=arguments)
    try:
        broker.start()
        broker.metrics_port = port  # type: ignore[attr-defined]
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            channel = connection.channel()
            channel.queue_declare("measured")
            channel.confirm_delivery()
            for _ in range(3):
                channel.basic_publish("", "measured", b"dig")
        yield broker
        assert broker.stop() == 0, broker.log
        broker.assert_no_traceback()
    finally:
        broker.end_by_force()


def _free_port() -> int:
    import socket

    with socket.create_server((LOOPBACK, 0)) as taken:
        return int(taken.getsockname()[1])


def scrape(broker: RunningBroker, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, broker.metrics_port, timeout=60)  # type: ignore[attr-defined]
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def samples(text: str, parse: Any = parse_text) -> dict[tuple[str, ...], float]:
    """By name and the values of labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@pytest.mark.process
def test_the_broker_as_a_whole_is_told_without_a_password(scraped: RunningBroker) -> None:
    status, text = scrape(scraped, "/metrics")

    found = samples(text)
    assert status == 200
    assert found["rabbitmq_channel_messages_published_total",] == 3
    assert found["rabbitmq_channel_messages_confirmed_total",] == 3
    assert found["rabbitmq_global_messages_received_total", "amqp091"] == 3
    assert found["rabbitmq_queue_messages_ready",] == 3
    assert found["rabbitmq_connections_opened_total",] >= 1
    assert found["rabbitmq_alarms_memory_used_watermark",] == 0
    for role, shard in (("shard", "0"), ("supervisor", ""), ("template", ""), ("management", "")):
        assert found["ebbmq_memory_process_bytes", "private", role, shard] > 1_000_000


@pytest.mark.process
def test_openmetrics_is_told_to_who_asks_for_it(scraped: RunningBroker) -> None:
    _status, text = scrape(scraped, "/metrics", Accept=OPENMETRICS)

    assert text.endswith("# EOF\n")
    assert samples(text, parse_openmetrics)["rabbitmq_queue_messages_ready",] == 3


@pytest.mark.process
def test_single_things_are_told_by_family_and_vhost(scraped: RunningBroker) -> None:
    _status, text = scrape(scraped, "/metrics/detailed?family=queue_coarse_metrics&family=nothing&vhost=/")
    found = samples(text)
    assert found["rabbitmq_detailed_queue_messages_ready", "measured", "/"] == 3
    assert {name for name, *_ in found} == {
        "rabbitmq_build_info",
        "rabbitmq_identity_info",
        *(f"rabbitmq_detailed_queue_{name}" for name in ("messages_ready", "messages_unacked", "messages")),
    }

    assert scrape(scraped, "/metrics/detailed?family=queue_coarse_metrics&vhost=nope")[1].count("measured") == 0
    assert samples(scrape(scraped, "/metrics/per-object")[1])["rabbitmq_queue_messages", "measured", "/"] == 3


@pytest.mark.process
@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/metrics", "aggregated"),
        ("/metrics/per-object", "per-object"),
        ("/metrics/detailed?family=queue_coarse_metrics", "detailed"),
    ],
)
def test_dashboards_of_rabbitmq_can_join_everything_with_the_name_of_its_cluster(
    scraped: RunningBroker, path: str, endpoint: str
) -> None:
    """`* on(instance, job) group_left(rabbitmq_cluster, rabbitmq_node) rabbitmq_identity_info{…}`: one sample to join
    with, whose labels no other has, and the name that the API gives the cluster."""
    api = Api(scraped.http_port)
    assert api.put("/cluster-name", {"name": "of ebb"}).status == 204

    families = list(parse_text(scrape(scraped, path)[1]))

    told = [sample for family in families for sample in family.samples]
    (identity,) = [sample for sample in told if sample.name == "rabbitmq_identity_info"]
    node = api.get("/overview").body["node"]
    assert identity.labels == {"rabbitmq_node": node, "rabbitmq_cluster": "of ebb", "rabbitmq_endpoint": endpoint}
    assert identity.value == 1
    assert sum(sample.name == "rabbitmq_build_info" for sample in told) == 1
    labelled = {sample.name for sample in told if identity.labels.keys() & sample.labels.keys()}
    assert labelled == {"rabbitmq_identity_info"}


@pytest.mark.process
def test_attempts_to_log_in_are_told_by_rabbitmqs_names(scraped: RunningBroker) -> None:
    api = Api(scraped.http_port)
    before = samples(scrape(scraped, "/metrics")[1])
    assert api.get("/whoami").status == 200
    assert api.as_user("guest", "wrong").get("/whoami").status == 401

    after = samples(scrape(scraped, "/metrics")[1])
    by_protocol = samples(scrape(scraped, "/metrics/detailed?family=auth_attempt_metrics")[1])
    by_source = scrape(scraped, "/metrics/detailed?family=auth_attempt_detailed_metrics")[1]

    gained = {
        name: after[f"rabbitmq_auth_attempts{name}_total",] - before[f"rabbitmq_auth_attempts{name}_total",]
        for name in ("", "_succeeded", "_failed")
    }
    assert gained == {"": 2, "_succeeded": 1, "_failed": 1}
    assert by_protocol["rabbitmq_detailed_auth_attempts_total", "amqp091"] >= 1
    assert by_protocol["rabbitmq_detailed_auth_attempts_failed_total", "http"] == 1
    assert "rabbitmq_detailed_auth_attempts_detailed_total" in by_source
    assert 'username="' not in by_source


@pytest.mark.process
def test_another_prefix_is_a_name(scraped: RunningBroker) -> None:
    assert ("lavinmq_queue_messages_ready",) in samples(scrape(scraped, "/metrics?prefix=lavinmq")[1])
    assert scrape(scraped, "/metrics?prefix=a-b")[0] == 400
    assert scrape(scraped, f"/metrics?prefix={'a' * 21}")[0] == 400
    assert scrape(scraped, "/metrics?prefix=%C3%A4")[0] == 400


@pytest.mark.process
def test_the_port_of_metrics_has_nothing_else(scraped: RunningBroker) -> None:
    assert scrape(scraped, "/api/overview")[0] == 404


@pytest.mark.process
def test_on_the_port_of_the_api_one_must_be_allowed_to_monitor(scraped: RunningBroker) -> None:
    def status(api: Api | None, method: str = "GET") -> int:
        connection = http.client.HTTPConnection(LOOPBACK, scraped.http_port, timeout=60)
        try:
            connection.request(method, "/metrics", headers=api.headers if api is not None else {})
            return connection.getresponse().status
        finally:
            connection.close()

    assert status(None) == 401
    assert status(None, "OPTIONS") == 401
    assert status(Api(scraped.http_port)) == 200
    assert status(add_user(scraped, "manages", "management")) == 401
    assert status(add_user(scraped, "monitors", "monitoring")) == 200
