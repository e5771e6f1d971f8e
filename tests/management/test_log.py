"""The log over HTTP: the last lines, those that come, where one left off; levels and files; nobody else may."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually
from tests.management.api import LOOPBACK, Api
from tests.management.conftest import add_user

ARGUMENTS = ("--set", "management.port=0", "--set", "management.metrics_port=-1")
WORDS = {"debug", "info", "warn", "error", "fatal"}


class Event(NamedTuple):
    identity: str
    kind: str
    data: str

    @property
    def message(self) -> str:
        return str(json.loads(self.data)[2])


class Listener:
    """One who listens as a browser does."""

    def __init__(self, api: Api, last_event_id: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, api.port, timeout=30)
        headers = {**api.headers, "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self._connection.request("GET", "/api/livelog", headers=headers)
        self.response = self._connection.getresponse()

    def events(self) -> Iterator[Event]:
        """Until the stream ends."""
        fields: dict[str, str] = {}
        for raw in self.response:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            if "data" in fields:
                yield Event(fields.get("id", ""), fields.get("event", "message"), fields["data"])
            fields = {}

    def await_message(self, text: str) -> Event:
        return next(event for event in self.events() if event.kind == "message" and text in event.message)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def listening(api: Api, last_event_id: str | None = None) -> Iterator[Listener]:
    listener = Listener(api, last_event_id)
    try:
        yield listener
    finally:
        listener.close()


def say_something(api: Api, trigger_level: str = "trim") -> None:
    """Every process of the broker logs at least one line."""
    assert api.post("/memory/compact", {"level": trigger_level}).status == 200


def test_logs_are_a_text_to_be_saved_with_lines_of_all_processes(api: Api) -> None:
    api.put("/log/level", {"level": "debug"})
    api.get("/aliveness-test/%2F")
    api.post("/definitions", {})
    api.put("/log/level", {"level": "info"})

    def arrived() -> bool:
        found = api.get("/logs")
        assert found.status == 200
        assert found.headers["content-type"].startswith("text/plain")
        assert "attachment" in found.headers["content-disposition"]
        shard = re.search(r"Z \[DEBUG\] shard [01] \S+ - connection ended connection=", found.body)
        wanted = ("[INFO] management - definitions imported", "[INFO] supervisor - vhost opened shard=")
        return shard is not None and all(part in found.body for part in wanted)

    eventually(arrived, "lines of all processes")


def test_logs_are_json_for_who_prefers_that(api: Api) -> None:
    found = api.ask("GET", "/logs", headers={"Accept": "application/json"})

    assert {frozenset(line) for line in found.body} == {frozenset(("id", "timestamp", "severity", "source", "message"))}
    assert {line["severity"] for line in found.body} <= WORDS


def test_a_listener_hears_what_was_logged_and_what_comes(api: Api) -> None:
    with listening(api) as listener:
        assert listener.response.headers["content-type"].startswith("text/event-stream")
        assert listener.await_message("vhost opened")
        say_something(api, "release")
        event = listener.await_message("running compaction trigger=control compaction_level=release")

    severity, source, _message = json.loads(event.data)
    milliseconds, _, number = event.identity.partition("-")
    assert (severity, source) == ("warn", "supervisor")
    assert abs(int(milliseconds) / 1000 - time.time()) < 60
    assert number.isdigit()


def test_a_listener_that_comes_back_goes_on_where_it_was(api: Api) -> None:
    say_something(api)
    with listening(api) as listener:
        seen = listener.await_message("vhost opened")
        following = next(listener.events())
    with listening(api, seen.identity) as back:
        first = next(back.events())

    assert first == following


def test_a_time_alone_says_where_to_go_on_as_well(api: Api) -> None:
    with listening(api) as listener:
        seen = listener.await_message("vhost opened")
    milliseconds = seen.identity.partition("-")[0]
    with listening(api, milliseconds) as back:
        say_something(api)
        first = next(back.events())

    assert int(first.identity.partition("-")[0]) > int(milliseconds)


@pytest.mark.parametrize("identity", ["x", "1-x", "-1", "1" * 20, "1-2-3"])
def test_an_id_that_is_none_of_ours_is_refused(api: Api, identity: str) -> None:
    with listening(api, identity) as listener:
        assert listener.response.status == 400


@pytest.mark.parametrize("tag", ["monitoring", "policymaker", "management"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/logs"), ("GET", "/livelog"), ("GET", "/log"), ("PUT", "/log/level"), ("POST", "/log/rotate")],
)
def test_only_administrators_may(managed: RunningBroker, tag: str, method: str, path: str) -> None:
    user = f"log-{tag}"
    if Api(managed.http_port).get(f"/users/{user}").status == 404:
        add_user(managed, user, tag)

    assert Api(managed.http_port, user, "secret").ask(method, path, {"level": "info"}).status == 401


def test_who_stops_being_an_administrator_hears_no_more(managed: RunningBroker, api: Api) -> None:
    add_user(managed, "temporary", "administrator")
    with listening(Api(managed.http_port, "temporary", "secret")) as listener:
        listener.await_message("vhost opened")
        api.put("/users/temporary", {"password": "secret", "tags": "monitoring"})
        say_something(api)
        for _event in listener.events():
            pass  # it ends


def test_too_many_listeners_are_refused(api: Api) -> None:
    listeners = [Listener(api) for _ in range(16)]
    try:
        for listener in listeners:
            listener.await_message("vhost opened")
        eventually(lambda: _status_of_one_more(api) == 503, "a refusal")
    finally:
        for listener in listeners:
            listener.close()
    eventually(lambda: _status_of_one_more(api) == 200, "room again", seconds=5)


def _status_of_one_more(api: Api) -> int:
    with listening(api) as listener:
        return listener.response.status


def test_the_level_changes_in_all_processes(api: Api) -> None:
    assert api.put("/log/level", {"level": "error"}).status == 204
    assert api.get("/log").body["level"] == "error"
    newest = api.ask("GET", "/logs", headers={"Accept": "application/json"}).body[-1]["id"]
    say_something(api)
    api.put("/log/level", {"level": "info"})
    with listening(api, newest) as listener:
        assert "log level changed log_level=info" in next(listener.events()).message


@pytest.mark.parametrize(
    ("body", "told"),
    [({"level": "loud"}, "level"), ({}, "level"), ({"level": 3}, "level"), ([], "object")],
)
def test_a_level_that_is_none_is_refused_by_name(api: Api, body: object, told: str) -> None:
    refused = api.put("/log/level", body)

    assert refused.status == 400
    assert told in refused.body["reason"]


def test_without_a_log_file_there_is_nothing_to_rotate(api: Api) -> None:
    refused = api.post("/log/rotate")

    assert refused.status == 400
    assert "main.log_file" in refused.body["reason"]
    assert api.get("/log").body["location"] == "stderr"


def test_passwords_are_in_no_line(managed: RunningBroker, api: Api) -> None:
    api.put("/log/level", {"level": "debug"})
    api.put("/users/careless", {"password": "my-secret-word", "tags": ""})
    Api(managed.http_port, "careless", "my-wrong-word").get("/whoami")
    api.put("/users/careless", {"password": "my-secret-word", "tags": 7.5})
    say_something(api)
    time.sleep(0.1)

    text = api.get("/logs").body + managed.log

    assert "my-secret-word" not in text
    assert "my-wrong-word" not in text
    api.put("/log/level", {"level": "info"})


def test_the_account_of_memory_names_it(api: Api) -> None:
    (supervisor,) = (one for one in api.get("/memory").body["processes"] if one["role"] == "supervisor")

    assert supervisor["by_kind"]["log"] > 0


@pytest.mark.process
def test_a_log_file_is_rotated_in_all_processes(tmp_path: Path) -> None:
    path, moved = tmp_path / "broker.log", tmp_path / "broker.log.1"
    broker = RunningBroker(tmp_path, arguments=(*ARGUMENTS, "--set", f"main.log_file={path}"))
    try:
        api = Api(broker.start().http_port)
        say_something(api)
        path.rename(moved)
        assert api.post("/log/rotate").status == 204
        assert api.get("/log").body["location"] == str(path)
        say_something(api)
        eventually(lambda: path.read_text().count("memory reclaimed") == 4, "lines of all processes in the new file")
        assert moved.read_text().count("memory reclaimed") == 4
        assert broker.stop() == 0
        assert broker.log == ""
    finally:
        broker.end_by_force()


@pytest.mark.process
def test_who_comes_back_late_is_told_how_many_lines_are_lost(tmp_path: Path) -> None:
    broker = RunningBroker(tmp_path, arguments=ARGUMENTS)
    try:
        api = Api(broker.start().http_port)
        with listening(api) as listener:
            seen = listener.await_message("vhost opened")
        for _ in range(16):
            say_something(api)
        say_something(api, "critical")
        with listening(api, seen.identity) as back:
            lost, first = (next(back.events()) for _ in range(2))
        assert lost.kind == "lost"
        assert int(first.identity.partition("-")[2]) == int(seen.identity.partition("-")[2]) + int(lost.data) + 1
        assert broker.stop() == 0
    finally:
        broker.end_by_force()


@pytest.mark.process
def test_the_process_ends_in_order_while_somebody_listens(tmp_path: Path) -> None:
    broker = RunningBroker(tmp_path, arguments=(*ARGUMENTS, "--set", "management.idle_seconds=1"))
    try:
        api = Api(broker.start().http_port)
        with listening(api) as listener:
            listener.await_message("vhost opened")
            time.sleep(3)  # longer than it would stay without listeners
            say_something(api)
            listener.await_message("running compaction")
            assert broker.log.count("management process started") == 1
            assert broker.stop() == 0
            _hear_the_end(listener)
        broker.assert_no_traceback()
        assert "SIGKILL" not in broker.log
    finally:
        broker.end_by_force()


def _hear_the_end(listener: Listener) -> None:
    """Nobody waits until the last lines have come, so which these are is not said."""
    with suppress(http.client.IncompleteRead, ConnectionError):  # the end of a stream without an end
        for _event in listener.events():
            pass
