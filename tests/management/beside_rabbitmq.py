"""The same requests to RabbitMQ's management API and to ours, and a table of how both answer.

`python -m tests.management.beside_rabbitmq [--all]` starts a RabbitMQ of Debian's and a broker, asks both, and prints
each request whose answers differ: in status, in the keys of what is returned, or in where the new thing is said to be.
With `--all` it prints every request. `RABBITMQ_HTTP` and `EBBMQ_HTTP` name ports of brokers that run already.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.fresh_rabbitmq import RabbitMQNode
from tests.clients.running_broker import RunningBroker
from tests.management.api import Answer, Api

_REASON_LENGTH_MAX: Final = 160  # Erlang can tell much
_PUBLISH: Final = "/exchanges/%2F/amq.default/publish"
_GET: Final = "/queues/%2F/q/get"
_PROPERTIES: Final = {
    "delivery_mode": 2,
    "content_type": "text/plain",
    "headers": {"a": 1, "b": "text", "c": True, "d": [1, "x"], "e": {"f": 2}},
    "priority": 3,
    "timestamp": 1700000000,
    "message_id": "m",
    "correlation_id": "c",
    "type": "t",
    "app_id": "a",
    "user_id": "guest",
    "reply_to": "r",
    "expiration": "600000",
    "content_encoding": "none",
}


class Step(NamedTuple):
    """One request."""

    method: str
    path: str
    body: Any = None
    raw: bytes | None = None


def _message(**changes: Any) -> dict[str, Any]:
    return {"properties": {}, "routing_key": "q", "payload": "hello", "payload_encoding": "string"} | changes


def _take(**changes: Any) -> dict[str, Any]:
    return {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"} | changes


STEPS: Final[tuple[Step, ...]] = (
    # queues
    Step("GET", "/queues"),
    Step("GET", "/queues/%2F"),
    Step("GET", "/queues/none"),
    Step("GET", "/queues/%2F/none"),
    Step("PUT", "/queues/%2F/q", {"durable": True, "arguments": {}}),
    Step("PUT", "/queues/%2F/q", {"durable": True}),
    Step("PUT", "/queues/%2F/q", {"durable": False}),
    Step("PUT", "/queues/%2F/no-body", raw=b""),
    Step("PUT", "/queues/%2F/auto", {"auto_delete": True, "durable": False}),
    Step("PUT", "/queues/%2F/text-flags", {"auto_delete": "true", "durable": "false"}),
    Step("PUT", "/queues/%2F/bad1", {"durable": "maybe"}),
    Step("PUT", "/queues/%2F/bad2", {"arguments": []}),
    Step("PUT", "/queues/%2F/bad3", {"arguments": {"x-message-ttl": "soon"}}),
    Step("PUT", "/queues/%2F/bad4", {"arguments": {"x-message-ttl": -1}}),
    Step("PUT", "/queues/%2F/bad5", {"arguments": {"x-huge": 10**30}}),
    Step("PUT", "/queues/%2F/bad6", raw=b"{"),
    Step("PUT", "/queues/%2F/bad7", raw=b"[]"),
    Step("PUT", "/queues/%2F/bad8", {"arguments": {"x-queue-type": "neither"}}),
    Step("PUT", "/queues/%2F/node", {"durable": True, "node": "rabbit@elsewhere"}),
    Step("PUT", "/queues/%2F/amq.mine", {"durable": True}),
    Step("PUT", f"/queues/%2F/{'x' * 256}", {"durable": True}),
    Step("PUT", "/queues/none/q", {"durable": True}),
    Step("PUT", "/queues/%2F/a%2Fb%20c%C3%A4", {"durable": True}),
    Step("GET", "/queues/%2F/a%2Fb%20c%C3%A4"),
    Step("GET", "/queues/%2F/q"),
    Step("GET", "/queues?page=1"),
    Step("GET", "/queues?page=1&page_size=2&sort=name&sort_reverse=true&columns=name,messages"),
    Step("GET", "/queues?page=0"),
    Step("GET", "/queues?page=x"),
    Step("GET", "/queues?page=99"),
    Step("GET", "/queues?page=1&page_size=501"),
    Step("GET", "/queues?page=1&page_size=0"),
    Step("GET", "/queues?page=1&name=(&use_regex=true"),
    Step("GET", "/queues?page=1&name=^q$&use_regex=true"),
    Step("GET", "/queues?sort=nothing"),
    Step("GET", "/queues?disable_stats=true"),
    Step("GET", "/queues?disable_stats=true&enable_queue_totals=true"),
    Step("GET", "/queues/%2F?disable_stats=true&enable_queue_totals=true"),
    Step("GET", "/queues/%2F/q?disable_stats=true"),
    Step("POST", "/queues"),
    Step("GET", "/queues/%2F/q/nothing"),
    Step("GET", "/queues/%2F/q/bindings"),
    Step("GET", "/queues/%2F/none/bindings"),
    Step("POST", "/queues/%2F/q/actions", {"action": "sync"}),
    Step("POST", "/queues/%2F/q/actions", {"action": "cancel_sync"}),
    Step("POST", "/queues/%2F/q/actions", {"action": "fly"}),
    Step("POST", "/queues/%2F/q/actions", {}),
    Step("POST", "/queues/%2F/none/actions", {"action": "sync"}),
    # publishing and getting
    Step("POST", _PUBLISH, _message()),
    Step("POST", _PUBLISH, _message(routing_key="nowhere")),
    Step("POST", _PUBLISH, _message(payload="aGVsbG8=", payload_encoding="base64")),
    Step("POST", _PUBLISH, _message(payload="%%%", payload_encoding="base64")),
    Step("POST", _PUBLISH, _message(payload_encoding="rot13")),
    Step("POST", _PUBLISH, _message(properties=_PROPERTIES)),
    Step("POST", _PUBLISH, _message(properties={"delivery_mode": "two"})),
    Step("POST", _PUBLISH, _message(properties={"delivery_mode": 300})),
    Step("POST", _PUBLISH, _message(properties={"nothing": 1})),
    Step("POST", _PUBLISH, _message(properties={"user_id": "somebody"})),
    Step("POST", _PUBLISH, _message(properties={"expiration": "soon"})),
    Step("POST", _PUBLISH, _message(properties={"expiration": 1000000})),
    Step("POST", _PUBLISH, _message(properties={"headers": []})),
    Step("POST", _PUBLISH, _message(properties={"headers": {"huge": 10**30}})),
    Step("POST", _PUBLISH, _message(properties={"priority": 256})),
    Step("POST", _PUBLISH, _message(properties={"timestamp": "yesterday"})),
    Step("POST", _PUBLISH, _message(properties=[])),
    Step("POST", _PUBLISH, _message(properties="no")),
    Step("POST", _PUBLISH, {"routing_key": "q", "payload": "x", "payload_encoding": "string"}),
    Step("POST", _PUBLISH, {"properties": {}, "payload": "x", "payload_encoding": "string"}),
    Step("POST", _PUBLISH, {"properties": {}, "routing_key": "q", "payload_encoding": "string"}),
    Step("POST", _PUBLISH, {"properties": {}, "routing_key": "q", "payload": "x"}),
    Step("POST", _PUBLISH, _message(routing_key=7)),
    Step("POST", _PUBLISH, _message(payload=7)),
    Step("POST", _PUBLISH, _message(routing_key="k" * 256)),
    Step("POST", "/exchanges/%2F/none/publish", _message()),
    Step("POST", "/exchanges/none/amq.direct/publish", _message()),
    Step("POST", _GET, _take()),
    Step("POST", _GET, _take(count=3)),
    Step("POST", _GET, _take(count="2")),
    Step("POST", _GET, _take(count=0)),
    Step("POST", _GET, _take(count=-1)),
    Step("POST", _GET, _take(count="many")),
    Step("POST", _GET, _take(count=1.5)),
    Step("POST", _GET, _take(count=10**30)),
    Step("POST", _GET, _take(ackmode="perhaps")),
    Step("POST", _GET, _take(encoding="rot13")),
    Step("POST", _GET, _take(encoding="base64")),
    Step("POST", _GET, _take(truncate=2)),
    Step("POST", _GET, _take(truncate="x")),
    Step("POST", _GET, _take(truncate=-1)),
    Step("POST", _GET, _take(ackmode="reject_requeue_true")),
    Step("POST", _GET, {"count": 1, "encoding": "auto"}),
    Step("POST", _GET, {"count": 1, "ackmode": "ack_requeue_true"}),
    Step("POST", _GET, {"ackmode": "ack_requeue_true", "encoding": "auto"}),
    Step("POST", _GET, {"count": 1, "requeue": True, "encoding": "auto"}),
    Step("POST", "/queues/%2F/none/get", _take()),
    Step("GET", _GET),
    Step("DELETE", "/queues/%2F/q?if-empty=true"),
    Step("POST", _GET, _take(ackmode="ack_requeue_false")),
    Step("POST", _GET, _take(ackmode="reject_requeue_false", count=2)),
    Step("DELETE", "/queues/%2F/q/contents"),
    Step("DELETE", "/queues/%2F/none/contents"),
    # exchanges
    Step("GET", "/exchanges"),
    Step("GET", "/exchanges/%2F"),
    Step("GET", "/exchanges/none"),
    Step("GET", "/exchanges/%2F/amq.default"),
    Step("GET", "/exchanges/%2F/amq.topic"),
    Step("GET", "/exchanges/%2F/none"),
    Step("PUT", "/exchanges/%2F/x", {"type": "direct", "durable": True}),
    Step("PUT", "/exchanges/%2F/x", {"type": "direct", "durable": True}),
    Step("PUT", "/exchanges/%2F/x", {"type": "topic", "durable": True}),
    Step("PUT", "/exchanges/%2F/y", {"type": "fanout", "durable": True}),
    Step("PUT", "/exchanges/%2F/no-type", {}),
    Step("PUT", "/exchanges/%2F/bad1", {"type": "nothing"}),
    Step("PUT", "/exchanges/%2F/bad2", {"type": 7}),
    Step("PUT", "/exchanges/%2F/bad3", {"type": "direct", "durable": 3}),
    Step("PUT", "/exchanges/%2F/bad4", {"type": "direct", "arguments": "no"}),
    Step("PUT", "/exchanges/%2F/bad5", {"type": "direct", "internal": "perhaps"}),
    Step("PUT", "/exchanges/%2F/inner", {"type": "direct", "internal": True, "auto_delete": True}),
    Step("POST", "/exchanges/%2F/inner/publish", _message()),
    Step("PUT", "/exchanges/%2F/amq.mine", {"type": "direct"}),
    Step("PUT", "/exchanges/%2F/amq.default", {"type": "direct", "durable": True}),
    Step("DELETE", "/exchanges/%2F/amq.default"),
    Step("DELETE", "/exchanges/%2F/amq.direct"),
    Step("DELETE", "/exchanges/%2F/none"),
    Step("GET", "/exchanges/%2F/x/bindings/source"),
    Step("GET", "/exchanges/%2F/x/bindings/destination"),
    Step("GET", "/exchanges/%2F/amq.default/bindings/source"),
    Step("GET", "/exchanges/%2F/none/bindings/source"),
    Step("GET", "/exchanges/%2F/x/bindings/sideways"),
    # bindings
    Step("GET", "/bindings"),
    Step("GET", "/bindings/%2F"),
    Step("GET", "/bindings/none"),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "k", "arguments": {}}),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "k", "arguments": {}}),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "a b#~/", "arguments": {}}),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "k", "arguments": {"n": 1}}),
    Step("POST", "/bindings/%2F/e/x/q/q", {}),
    Step("POST", "/bindings/%2F/e/x/q/q", raw=b""),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": 3}),
    Step("POST", "/bindings/%2F/e/x/q/q", {"arguments": []}),
    Step("POST", "/bindings/%2F/e/x/q/q", {"routing_key": "r" * 256}),
    Step("POST", "/bindings/%2F/e/amq.default/q/q", {"routing_key": "k"}),
    Step("POST", "/bindings/%2F/e/none/q/q", {"routing_key": "k"}),
    Step("POST", "/bindings/%2F/e/x/q/none", {"routing_key": "k"}),
    Step("POST", "/bindings/%2F/e/x/e/y", {"routing_key": "k"}),
    Step("POST", "/bindings/%2F/e/x/e/none", {"routing_key": "k"}),
    Step("POST", "/bindings/%2F/e/x/z/y", {"routing_key": "k"}),
    Step("GET", "/bindings/%2F/e/x/q/q"),
    Step("GET", "/bindings/%2F/e/x/e/y"),
    Step("GET", "/bindings/%2F/e/none/q/q"),
    Step("GET", "/bindings/%2F/e/x/q/none"),
    Step("GET", "/bindings/%2F/e/x/q/q/k"),
    Step("GET", "/bindings/%2F/e/x/q/q/~"),
    Step("GET", "/bindings/%2F/e/x/q/q/none"),
    Step("GET", "/bindings/%2F/e/x/q/q/a%2Bb%2523%257E%252F"),
    Step("GET", "/bindings/%2F/e/x/e/y/k"),
    Step("GET", "/bindings/%2F/e//q/q"),
    Step("GET", "/bindings/%2F/e/amq.default/q/q"),
    Step("GET", "/bindings/%2F/e/amq.default/q/q/q"),
    Step("DELETE", "/bindings/%2F/e/x/q/q/none"),
    Step("DELETE", "/bindings/%2F/e/x/q/q/k"),
    Step("DELETE", "/bindings/%2F/e/x/q/q/k"),
    Step("DELETE", "/bindings/%2F/e/x/q/q/a%2Bb%2523%257E%252F"),
    Step("DELETE", "/bindings/%2F/e/amq.default/q/q/q"),
    Step("DELETE", "/bindings/%2F/e/x/q/q"),
    Step("DELETE", "/exchanges/%2F/x?if-unused=true"),
    Step("DELETE", "/exchanges/%2F/x?if-unused=perhaps"),
    Step("DELETE", "/bindings/%2F/e/x/e/y/k"),
    Step("GET", "/exchanges/%2F/x/bindings/source"),
    Step("DELETE", "/exchanges/%2F/x"),
    # the end
    Step("DELETE", "/queues/%2F/q?if-unused=perhaps"),
    Step("DELETE", "/queues/%2F/q?if-unused=true&if-empty=true"),
    Step("DELETE", "/queues/%2F/q"),
    Step("DELETE", "/queues/%2F/auto"),
    Step("DELETE", "/queues/none/auto"),
)


def shape(answer: Answer) -> str:
    """Status, where the new thing is, and what is said: an error, or the keys of a document or of a list's first."""
    status = str(answer.status)
    if "location" in answer.headers:
        status += f" at {answer.headers['location'].partition('~')[0]}"
    body = answer.body
    if isinstance(body, dict) and "error" in body:
        reason = " ".join(str(body.get("reason")).split()).replace("|", "/")
        return f"{status} {body['error']}: {reason[:_REASON_LENGTH_MAX]}"
    return f"{status} {_shape(body)}"


def _shape(body: Any) -> str:
    if isinstance(body, list):
        return f"[{len(body)}: {_shape(body[0]) if body else ''}]"
    if isinstance(body, dict):
        return "{" + ", ".join(sorted(body)) + "}"
    return "" if body is None else repr(body)[:40]


def main() -> None:
    shows_all = "--all" in sys.argv
    with _ports() as (theirs, ours):
        print("| request | RabbitMQ | EbbMQ |\n|---|---|---|")
        for step in STEPS:
            left, right = (Api(port).ask(*step[:2], step.body, raw=step.raw) for port in (theirs, ours))
            if shows_all or left.status != right.status or shape(left) != shape(right):
                mark = "**" if left.status != right.status else ""
                asked = f"{step.method} {step.path[:60]} {str(step.body or step.raw or '')[:70]}"
                print(f"| {mark}{asked}{mark} | {shape(left)} | {shape(right)} |")


@contextmanager
def _ports() -> Iterator[tuple[int, int]]:
    if "RABBITMQ_HTTP" in os.environ:
        yield int(os.environ["RABBITMQ_HTTP"]), int(os.environ["EBBMQ_HTTP"])
        return
    with tempfile.TemporaryDirectory() as home:
        node = RabbitMQNode(Path(home), is_managed=True)
        arguments = ("--set", "management.port=0", "--set", "management.metrics_port=-1")
        broker = RunningBroker(Path(home), arguments=arguments)
        try:
            node.start()
            assert node.http_port is not None
            broker.start()
            yield node.http_port, broker.http_port
            assert broker.stop() == 0
        finally:
            broker.end_by_force()
            node.stop()


if __name__ == "__main__":
    main()
