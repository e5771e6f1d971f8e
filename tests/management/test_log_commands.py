"""The log by `ebbmqctl`: the last lines, those that come, where it goes, from which level on."""

import json
import signal
import subprocess
import sys

import pytest

from tests.clients.running_broker import ROOT, RunningBroker, environment
from tests.management.api import Api
from tests.management.ebbmqctl import ctl


def test_the_last_lines_are_printed(managed: RunningBroker) -> None:
    lines = ctl(managed, "log_tail", "-N", "3").stdout.splitlines()
    documents = [json.loads(line) for line in ctl(managed, "log_tail", "-f", "json").stdout.splitlines()]

    assert len(lines) == 3
    assert "Z [info] supervisor - " in lines[-1]
    assert any("vhost opened" in document["message"] for document in documents)


def test_lines_that_come_are_printed_until_it_is_interrupted(managed: RunningBroker) -> None:
    command = [sys.executable, "-m", "runtime.cli.ctl.main", "--data-dir", str(managed.data), "log_tail_stream"]
    follower = subprocess.Popen(command, cwd=ROOT, env=environment({}), stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert follower.stdout is not None
        next(line for line in follower.stdout if "vhost opened" in line)
        Api(managed.http_port).post("/memory/compact", {"level": "trim"})
        next(line for line in follower.stdout if "memory reclaimed" in line)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 1
    finally:
        follower.kill()
        follower.communicate()


def test_lines_are_followed_for_as_long_as_is_said(managed: RunningBroker) -> None:
    done = ctl(managed, "log_tail_stream", "-d", "1")

    assert done.returncode == 0
    assert "vhost opened" in done.stdout


def test_the_level_is_set(managed: RunningBroker) -> None:
    assert "debug" in ctl(managed, "set_log_level", "debug").stdout
    assert Api(managed.http_port).get("/log").body["level"] == "debug"
    assert ctl(managed, "set_log_level", "info").returncode == 0


@pytest.mark.parametrize("level", ["loud", ""])
def test_a_level_that_is_none_is_a_usage_error(managed: RunningBroker, level: str) -> None:
    assert ctl(managed, "set_log_level", level).returncode == 2


def test_the_log_is_located_and_cannot_be_rotated_without_a_file(managed: RunningBroker) -> None:
    assert ctl(managed, "log_location").stdout == "stderr\n"
    refused = ctl(managed, "rotate_logs")
    assert refused.returncode == 1
    assert "main.log_file" in refused.stderr
