"""The speed a broker runs at is that of its shards, is inherited by all its processes, and is said in its log."""

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

import pytest

from ipc.speed import PURE_VARIABLE, hot_modules, read_speed
from tests.clients.conftest import StartBroker

HOT: Final = {name for name, _source in hot_modules() if name.startswith("shards.")}
WARNING: Final = "hot modules run interpreted"


def compiled_in(pid: int) -> set[str]:
    """The hot modules of shards that a process has in memory in their compiled form."""
    mapped = {Path(line.split()[-1]).name for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}
    return {name for name in HOT if any(name.rpartition(".")[2] + suffix in mapped for suffix in EXTENSION_SUFFIXES)}


def test_a_broker_that_is_told_so_interprets_in_all_its_processes_and_warns(new_broker: StartBroker) -> None:
    broker = new_broker(extra={PURE_VARIABLE: "1"}).start()

    assert not any(compiled_in(pid) for pid in broker.descendants())
    assert "EBBMQ_PURE is set" in broker.await_log(WARNING)


@pytest.mark.skipif(read_speed(os.environ).name != "compiled", reason="nothing is compiled")
def test_a_compiled_broker_says_nothing_of_it(new_broker: StartBroker) -> None:
    broker = new_broker().start()

    assert all(compiled_in(pid) == HOT for pid in broker.ready.shards.values())
    assert WARNING not in broker.log
