"""Every endpoint there is refuses whoever lacks the tag or the permission for it; a new one cannot be forgotten.

The table has what `test_accounts_access.py` has not, and the routes themselves say what is missing in both. In virtual
host `mine` every user here may do everything, in `shut` nothing, and `other` none of them may enter. `LIVE` is a
connection of `guest` in `mine`, who is none of them.
"""

import http.client
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import pika
import pytest

from runtime.management.metrics.routes import METRICS
from runtime.management.resources import RESOURCES
from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK, Api
from tests.management.conftest import add_user
from tests.management.test_accounts_access import ROWS as ACCOUNTS
from tests.management.test_accounts_access import TAGS, Row

ALL: Final = frozenset(TAGS[:4])
ADMINISTRATOR: Final = frozenset({"administrator"})
MONITORING: Final = frozenset({"administrator", "monitoring"})
POLICYMAKER: Final = frozenset({"administrator", "policymaker"})
NOBODY: Final[frozenset[str]] = frozenset()

MESSAGE: Final = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
GET: Final = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}


def in_vhosts(method: str, path: str, body: Any = None, *, other: frozenset[str], shut: frozenset[str]) -> list[Row]:
    """Whoever has a tag in `mine`; in the others those."""
    return [
        Row(allowed, method, path.format(vhost=vhost), body)
        for vhost, allowed in (("mine", ALL), ("other", other), ("shut", shut))
    ]


def seen(path: str) -> list[Row]:
    """What is looked at takes no permission but to enter, and from who monitors not even that."""
    return in_vhosts("GET", path, other=MONITORING, shut=ALL)


def done(method: str, path: str, body: Any = None) -> list[Row]:
    """What is done takes the permission for it, from everybody."""
    return in_vhosts(method, path, body, other=NOBODY, shut=NOBODY)


ROWS: Final[tuple[Row, ...]] = (
    *ACCOUNTS,
    Row(MONITORING, "GET", "/auth/attempts/ebbmq@nowhere"),
    Row(MONITORING, "GET", "/auth/attempts/ebbmq@nowhere/source"),
    Row(MONITORING, "DELETE", "/auth/attempts/ebbmq@nowhere"),
    Row(MONITORING, "DELETE", "/auth/attempts/ebbmq@nowhere/source"),
    # lists of everything show what one may see
    *(Row(ALL, "GET", path) for path in ("/bindings", "/connections", "/channels", "/consumers", "/exchanges")),
    *(Row(ALL, "GET", path) for path in ("/queues", "/whoami", "/overview", "/auth", "/extensions")),
    *(Row(ALL, "GET", path) for path in ("/feature-flags", "/deprecated-features", "/deprecated-features/used")),
    Row(ALL, "GET", "/federation-links"),
    *seen("/federation-links/{vhost}"),
    Row(MONITORING, "GET", "/shovels"),
    Row(MONITORING, "GET", "/shovels/mine"),
    *seen("/bindings/{vhost}"),
    *seen("/bindings/{vhost}/e/amq.topic/q/q"),
    *done("POST", "/bindings/{vhost}/e/amq.topic/q/q", {"routing_key": "k"}),
    *seen("/bindings/{vhost}/e/amq.topic/q/q/k"),
    *done("DELETE", "/bindings/{vhost}/e/amq.topic/q/q/made"),
    *seen("/vhosts/{vhost}/connections"),
    *seen("/vhosts/{vhost}/channels"),
    *seen("/consumers/{vhost}"),
    Row(ALL, "GET", "/connections/username/guest"),
    # what is somebody else's is shown to who monitors, and touched by administrators
    Row(MONITORING, "GET", "/connections/LIVE"),
    Row(MONITORING, "GET", "/connections/LIVE/channels"),
    Row(MONITORING, "GET", "/channels/LIVE%20%281%29"),
    Row(ADMINISTRATOR, "PUT", "/channels/LIVE%20%281%29", {"prefetch": 1}),
    Row(ADMINISTRATOR, "DELETE", "/consumers/mine/LIVE/1/nope"),
    Row(NOBODY, "DELETE", "/consumers/other/LIVE/1/nope"),
    Row(ADMINISTRATOR, "DELETE", "/connections/LIVE"),
    Row(ADMINISTRATOR, "DELETE", "/connections/username/guest"),
    *seen("/exchanges/{vhost}"),
    *seen("/exchanges/{vhost}/amq.topic"),
    *done("PUT", "/exchanges/{vhost}/made", {"type": "topic"}),
    *seen("/exchanges/{vhost}/amq.topic/bindings/source"),
    *done("POST", "/exchanges/{vhost}/amq.topic/publish", MESSAGE),
    *done("DELETE", "/exchanges/{vhost}/made"),
    *(Row(ALL, "GET", f"/health/checks/{name}") for name in ("alarms", "local-alarms", "virtual-hosts", "ready")),
    *(Row(ALL, "GET", f"/health/checks/node-is-{name}-critical") for name in ("mirror-sync", "quorum")),
    Row(ALL, "GET", "/health/checks/certificate-expiration/1/weeks"),
    Row(ALL, "GET", "/health/checks/port-listener/1"),
    Row(ALL, "GET", "/health/checks/protocol-listener/amqp"),
    Row(ALL, "GET", "/healthchecks/node"),
    *done("GET", "/aliveness-test/{vhost}"),
    *(Row(MONITORING, "GET", path) for path in ("/memory", "/memory/dry-run", "/memory/passes", "/memory/metrics")),
    Row(ADMINISTRATOR, "POST", "/memory/compact", {"level": "trim"}),
    *(Row(MONITORING, "GET", path) for path in ("/nodes", "/nodes/nope", "/nodes/nope/memory", "/shards")),
    Row(ADMINISTRATOR, "GET", "/nodes/nope/settings"),
    Row(ADMINISTRATOR, "PUT", "/nodes/nope/alarms", {}),
    Row(ADMINISTRATOR, "PUT", "/nodes/nope/listeners/open", {}),
    *(Row(ADMINISTRATOR, "GET", path) for path in ("/log", "/logs")),
    Row(ADMINISTRATOR, "PUT", "/log/level", {"level": "info"}),
    Row(ADMINISTRATOR, "POST", "/log/rotate"),
    Row(ADMINISTRATOR, "POST", "/nodes/gc_collect"),
    Row(ADMINISTRATOR, "POST", "/nodes/nope/gc_collect"),
    Row(ADMINISTRATOR, "POST", "/vhosts/nope/move", {"shard": 0}),
    *seen("/queues/{vhost}"),
    *seen("/queues/{vhost}/q"),
    *done("PUT", "/queues/{vhost}/made", {"durable": True}),
    *seen("/queues/{vhost}/q/bindings"),
    *seen("/queues/{vhost}/q/unacked"),
    *done("POST", "/queues/{vhost}/q/get", GET),
    *done("DELETE", "/queues/{vhost}/q/contents"),
    *done("PUT", "/queues/{vhost}/q/pause"),
    *done("PUT", "/queues/{vhost}/q/resume"),
    *in_vhosts("PUT", "/queues/{vhost}/q/restart", other=NOBODY, shut=ALL),  # which is never done
    *done("DELETE", "/queues/{vhost}/made"),
    Row(ADMINISTRATOR, "POST", "/queues/mine/q/actions", {"action": "sync"}),
    Row(ADMINISTRATOR, "DELETE", "/topic-permissions/mine/guest/nope"),
    # where those of accounts are about lists and changes only
    Row(ADMINISTRATOR, "GET", "/policies/other/p"),
    Row(ADMINISTRATOR, "GET", "/operator-policies/other"),
    Row(ADMINISTRATOR, "GET", "/parameters/shovel/other/s"),
    Row(ADMINISTRATOR, "DELETE", "/parameters/shovel/other/nope"),
)

_PARAMETER: Final = re.compile(r"\\\{\w+:(int|str)\\\}")
_PATTERNS: Final = {"int": r"\d+", "str": "[^/]+"}


def routes(handlers: Iterable[Any]) -> set[tuple[str, str]]:
    """Methods and paths, parameters as they stand there."""
    return {(str(method), path) for one in handlers for path in one.paths for method in one.http_methods}


def route_of(row: Row) -> tuple[str, str]:
    """The one that answers it: of those that fit, the one with the fewest parameters."""
    fitting = [
        path
        for method, path in routes(RESOURCES)
        if method == row.method
        and re.fullmatch(_PARAMETER.sub(lambda found: _PATTERNS[found[1]], re.escape(path)), row.path)
    ]
    assert fitting, f"no endpoint {row.method} {row.path}"
    return row.method, min(fitting, key=lambda path: path.count("{"))


def test_no_endpoint_is_missing_in_the_table() -> None:
    without_end = {("GET", "/livelog")}  # `test_log.py` asks who may listen to it

    assert routes(RESOURCES) - {route_of(row) for row in ROWS} == without_end


def test_where_a_tag_alone_is_not_enough_the_table_says_so() -> None:
    """Whatever lies in a virtual host and is not for administrators alone is asked of one that may not be entered."""
    asked: dict[tuple[str, str], list[Row]] = {}
    for row in ROWS:
        asked.setdefault(route_of(row), []).append(row)
    in_a_vhost = {
        route: rows
        for route, rows in asked.items()
        if "{vhost:" in route[1] and not all(row.allowed <= MONITORING for row in rows)
    }

    assert len(in_a_vhost) > 30
    assert [route for route, rows in in_a_vhost.items() if not any("other" in row.path for row in rows)] == []


@pytest.fixture(scope="module")
def callers(managed: RunningBroker) -> dict[str, Api]:
    guest = Api(managed.http_port)
    for vhost in ("mine", "other", "shut"):
        assert guest.put(f"/vhosts/{vhost}").status == 201
        for queue in ("q", "made"):
            assert guest.put(f"/queues/{vhost}/{queue}", {"durable": True}).status == 201
        assert guest.put(f"/exchanges/{vhost}/made", {"type": "topic"}).status == 201
        assert guest.post(f"/bindings/{vhost}/e/amq.topic/q/q", {"routing_key": "made"}).status == 201
    made: dict[str, Api] = {}
    for tag in TAGS:
        made[tag] = add_user(managed, tag, *(() if tag == "none" else (tag,)))
        managed.permit(tag, "mine", configure=".*", write=".*", read=".*")
        managed.permit(tag, "shut", configure="^$", write="^$", read="^$")
    assert guest.put("/users/somebody", {"password_hash": "", "tags": ""}).status == 201
    topics = {"exchange": "amq.topic", "write": "", "read": ""}
    assert guest.put("/topic-permissions/mine/guest", topics).status == 201
    return made


@pytest.fixture(scope="module")
def live(managed: RunningBroker, callers: dict[str, Api]) -> Iterator[str]:
    """A connection with a channel; what it is called, as it stands in a path."""
    parameters = pika.ConnectionParameters(LOOPBACK, managed.port, "mine")
    connection = pika.BlockingConnection(parameters)
    connection.channel()
    yield quote(callers["administrator"].get("/vhosts/mine/connections").body[0]["name"], safe="")
    with suppress(pika.exceptions.AMQPError):
        connection.close()


@pytest.mark.parametrize("row", ROWS[len(ACCOUNTS) :], ids=lambda row: f"{row.method} {row.path}")
def test_only_who_has_the_tag_and_the_permission_is_let_in(row: Row, callers: dict[str, Api], live: str) -> None:
    """Administrators last, because then some things are gone."""
    path = row.path.replace("LIVE", live)
    answered = {tag: callers[tag].ask(row.method, path, row.body) for tag in reversed(TAGS)}

    assert {tag for tag, answer in answered.items() if answer.status != 401} == row.allowed, answered
    assert all(answer.status < 500 or "/health/" in row.path for answer in answered.values())
    assert "LIVE" not in row.path or answered["administrator"].status in (200, 204, 401) or row.path.endswith("nope")


@pytest.mark.parametrize("row", ROWS[len(ACCOUNTS) :], ids=lambda row: f"{row.method} {row.path}")
def test_nobody_is_let_in_without_a_name(row: Row, api: Api) -> None:
    assert api.ask(row.method, row.path, row.body, headers={"Authorization": ""}).status == 401


@pytest.mark.parametrize(("method", "path"), sorted(routes(METRICS)))
def test_metrics_on_the_port_of_the_api_are_for_who_monitors(
    method: str, path: str, callers: dict[str, Api], managed: RunningBroker
) -> None:
    def status(headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, managed.http_port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    assert status({}) == 401
    assert {tag for tag in TAGS if status(callers[tag].headers) == 200} == MONITORING
