"""What `/docs` describes is what the API does: nothing is left out, and no answer differs from it, however one asks."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import quote

import pika
import pytest
from jsonschema_rs import validator_for
from litestar.handlers import HTTPRouteHandler

from runtime.management.metrics.routes import METRICS
from runtime.management.resources import RESOURCES
from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.management.api import LOOPBACK, Api
from tests.management.described import ARGUMENTS, PASSWORD, USER, Extent, findings, prepare

SEED: Final = 20240501


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One for this module alone, because it is asked to do everything there is to do."""
    broker = RunningBroker(tmp_path_factory.mktemp("described"), arguments=ARGUMENTS)
    try:
        broker.start()
        prepare(broker)
        yield broker
        assert broker.stop() == 0, broker.log
        broker.assert_no_traceback()
        assert "request failed" not in broker.log, broker.log[-8000:]
    finally:
        broker.end_by_force()


def asking(broker: RunningBroker) -> Api:
    return Api(broker.http_port, USER, PASSWORD)


@pytest.fixture(scope="module")
def description(managed: RunningBroker) -> dict[str, Any]:
    api = asking(managed)
    return cast("dict[str, Any]", api.ask("GET", "/docs/openapi.json", base="").body)


def operations(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


@pytest.mark.parametrize("handler", [*RESOURCES, *METRICS], ids=lambda handler: handler.handler_name)
def test_every_endpoint_says_what_it_answers(handler: HTTPRouteHandler) -> None:
    assert handler.operation_class.__name__ == "Described"


def test_nobody_is_answered_without_a_password(managed: RunningBroker, description: dict[str, Any]) -> None:
    api = asking(managed)
    api.headers = {}

    answers = {
        f"{method} {path}": api.ask(method.upper(), address(path), base="/api" if path.startswith("/api") else "")
        for method, path, _operation in operations(description)
    }

    assert {name: answer.status for name, answer in answers.items() if answer.status != 401} == {}
    assert all(set(answer.body) == {"error", "reason"} for answer in answers.values())


# bad input ------------------------------------------------------------------------------------------------------------


def bodies(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each endpoint that takes a body, at an address where there is something, and what is described of the body."""
    for method, path, operation in operations(description):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            yield method.upper(), address(path), content["application/json"]["schema"]


ADDRESS: Final = {
    "vhost": "%2F",
    "user": "guest",
    "component": "federation-upstream",
    "source": "amq.topic",
    "kind": "e",
    "destination": "amq.direct",
    "limit": "max-queues",
    "end": "source",
    "unit": "days",
}


def address(path: str) -> str:
    known = {**ADDRESS, "name": "amq.fanout" if "/exchanges/" in path else "guest" if "/user" in path else "jobs"}
    return path.removeprefix("/api").format_map(defaultdict(lambda: "1", known))


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'"text"', b"\xff", b"[" * 100_000, b'{"a": 1e999999}', b"nul"])
def test_a_body_that_is_no_json_object_is_refused(
    managed: RunningBroker, description: dict[str, Any], raw: bytes
) -> None:
    api = asking(managed)

    for method, path, _schema in bodies(description):
        answer = api.ask(method, path, raw=raw)
        assert answer.status in (400, 404), (method, path, answer)
        assert set(answer.body) >= {"error", "reason"}


def test_a_field_of_a_wrong_type_is_named(managed: RunningBroker, description: dict[str, Any]) -> None:
    api = asking(managed)
    named = 0
    for method, path, schema in bodies(description):
        for field, told in schema["properties"].items():
            if takes_an_object(told):
                continue
            answer = api.ask(method, path, {**valid(schema), field: {"wrong": [None]}})
            if answer.status == 404:
                continue
            assert answer.status == 400, (method, path, field, answer)
            assert field in json.dumps(answer.body), (method, path, field, answer)
            named += 1
    assert named > 50


def takes_an_object(schema: Mapping[str, Any]) -> bool:
    is_anything = not schema.keys() - {"default", "description"}
    return is_anything or schema.get("type") == "object" or any(map(takes_an_object, schema.get("anyOf", ())))


def takes_any_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "array" or (schema.get("type") == "string" and not schema.keys() & {"enum", "pattern"})


def valid(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A body in which everything is there that has to be."""
    return {name: example(schema["properties"][name]) for name in schema.get("required", ())}


def example(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    return {"string": "", "integer": 0, "object": {}, "array": []}.get(schema.get("type", "object"))


def test_a_body_that_is_too_large_is_refused(managed: RunningBroker, description: dict[str, Any]) -> None:
    api = asking(managed)
    limit = 33_554_432
    path = "/exchanges/%2F/amq.fanout/publish"

    answer = api.ask("POST", path, raw=b'{"payload":"' + b"x" * limit + b'"}')

    assert (answer.status, answer.body["error"]) == (413, "payload_too_large")


def test_a_body_of_another_type_is_refused(managed: RunningBroker, description: dict[str, Any]) -> None:
    api = asking(managed)

    for method, path, _schema in bodies(description):
        answer = api.ask(method, path, raw=b"<a/>", headers={"Content-Type": "application/xml"})
        assert answer.status in (415, 404), (method, path, answer)


def test_a_value_of_a_parameter_that_is_none_is_refused_by_name(
    managed: RunningBroker, description: dict[str, Any]
) -> None:
    api = asking(managed)
    refused = 0
    for method, path, operation in operations(description):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or takes_any_text(parameter["schema"]):
                continue
            answer = api.ask(method.upper(), f"{address(path)}?{parameter['name']}=per-haps")
            if answer.status == 404:
                continue
            assert answer.status == 400, (method, path, parameter["name"], answer)
            assert parameter["name"] in answer.body["reason"]
            refused += 1
    assert refused > 100


# what is there --------------------------------------------------------------------------------------------------------


@pytest.fixture
def occupied(managed: RunningBroker) -> Iterator[dict[str, str]]:
    """Something of each kind; names of what only the broker could name."""
    api = asking(managed)
    parameters = pika.ConnectionParameters(
        LOOPBACK, managed.port, credentials=pika.PlainCredentials(USER, PASSWORD), heartbeat=0
    )
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        channel.queue_bind("jobs", "amq.topic", "a.#")
        channel.basic_publish("amq.topic", "a.b", b"one", pika.BasicProperties(headers={"a": 1}))
        channel.basic_consume("jobs", lambda *_: None)
        connection.process_data_events(0.1)
        for path, body in SETTLED.items():
            assert api.ask("PUT", path, body).status in (201, 204)
        (named,) = eventually(lambda: api.get("/channels").body, "the channel in lists")
        yield {"channel": named["name"], "connection": named["connection_details"]["name"]}
    finally:
        connection.close()


SETTLED: Final[Mapping[str, Any]] = {
    "/policies/%2F/jobs": {"pattern": "^jobs$", "definition": {"max-length": 10}},
    "/operator-policies/%2F/jobs": {"pattern": "^x$", "definition": {"max-length": 10}},
    "/parameters/federation-upstream/%2F/jobs": {"value": {"uri": "amqp://x"}},
    "/global-parameters/jobs": {"value": [1]},
    "/vhost-limits/%2F/max-queues": {"value": 1000},
    "/user-limits/guest/max-channels": {"value": 1000},
    "/topic-permissions/%2F/guest": {"exchange": "amq.topic", "write": ".*", "read": ".*"},
}


def test_what_is_there_looks_as_described(
    managed: RunningBroker, description: dict[str, Any], occupied: dict[str, str]
) -> None:
    """Every address that can be looked at; most of what is made up asks for what is not there."""
    api = asking(managed)
    looked = 0
    for method, path, operation in operations(description):
        if method != "get" or path == "/api/livelog" or not path.startswith("/api"):
            continue
        kind = path.split("/")[2].removesuffix("s")
        known = address(path)
        if "{name}" in path and kind in occupied:
            known = path.removeprefix("/api").format(name=quote(occupied[kind], safe=""))
        answer = api.get(known)
        content = operation["responses"].get(str(answer.status), {}).get("content", {})
        if "application/json" in content and not isinstance(answer.body, str):
            schema = {**content["application/json"]["schema"], "components": description["components"]}
            faults = [
                f"{fault.instance_path}: {fault.message}" for fault in validator_for(schema).iter_errors(answer.body)
            ]
            assert not faults, (known, faults)
            looked += answer.status == 200
    assert looked > 60


# everything -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_answer_is_another_one_than_described(managed: RunningBroker) -> None:
    """Thousands of requests, the same each time; `make schemathesis` makes up others, and more of them."""
    # `/upload` is another name for the same.
    extent = Extent(SEED, phases=("coverage",), examples=1, without="/upload$")

    done = findings(managed.http_port, extent)

    assert done.requests > 3000
    assert not done.found, "\n\n".join(done.found)
