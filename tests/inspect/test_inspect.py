"""What is told of a data directory is what a start finds there, and telling it changes nothing."""

import fcntl
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from ipc.data_directory import FORMAT_LINE, DataDirectory, VHostDirectory
from ipc.errors import ExitCode
from ipc.settings import StoreSettings
from shards.inspect.__main__ import inspect, main
from shards.inspect.accounts import DirectoryAccount, StoreAccount, VHostAccount
from tests.protocols.conversation import World

SMALL_FILES = StoreSettings(segment_bytes_max=64 * 1024)
MESSAGES = 100


class Home:
    """A data directory with one vhost, `orders`, as a supervisor and a shard would have made it."""

    def __init__(self, root: Path) -> None:
        self.paths = DataDirectory(root)
        root.mkdir(parents=True)
        self.paths.format.write_text(FORMAT_LINE)
        self.paths.lock.write_text("")
        with sqlite3.connect(self.paths.directory) as database:
            database.execute("CREATE TABLE vhosts (number INTEGER, name TEXT)")
            database.execute("INSERT INTO vhosts VALUES (1, 'orders')")
        self.begin()

    def begin(self) -> None:
        self.world = _world(self.paths.vhost(1))
        self.client = self.world.client().open()

    def fill(self, queue: str = "jobs", count: int = MESSAGES, **facts: Any) -> None:
        self.client.declare(queue, durable=True, **facts)
        for number in range(count):
            self.client.publish("", queue, b"%d " % number + b"x" * 2000, persistent=True)

    def take(self, count: int, queue: str = "jobs") -> None:
        for _ in range(count):
            self.client.get(queue)

    def write_back(self) -> None:
        for _ in range(3):
            self.world.advance(1000)

    def end_in_order(self) -> None:
        self.world.close()

    def end_suddenly(self) -> None:
        for definitions in self.world.vhosts._definitions.values():
            definitions.close()

    def segments(self) -> list[Path]:
        return sorted((self.paths.vhost(1) / "queues").rglob("*.messages"))

    def look(self, *, verifies: bool = False) -> tuple[DirectoryAccount, VHostAccount]:
        """Nothing may change by it."""
        before = content(self.paths.root)
        account = inspect(self.paths.root, verifies=verifies)
        assert content(self.paths.root) == before
        (vhost,) = account.vhosts
        return account, vhost

    def queue(self, *, verifies: bool = False) -> StoreAccount:
        _account, vhost = self.look(verifies=verifies)
        (store,) = vhost.stores
        return store

    def depth_after_a_start(self) -> int:
        self.begin()
        return int(self.client.declare("jobs", durable=True, passive=True).message_count)


def _world(vhost: Path) -> World:
    class Placed(World):
        def open(self, name: str) -> Any:
            vhost.mkdir(parents=True, exist_ok=True)
            opened, self.report = self.vhosts.open(name, str(vhost))
            return opened

    return Placed(vhost, store=SMALL_FILES)


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    """With the times of the last change, so that nothing was even written as it was."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data")


def damage(path: Path, at: int, what: bytes = b"rotten") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


# what is there --------------------------------------------------------------------------------------------------------


def test_after_an_end_in_order_messages_are_told_and_no_segment_has_to_be_read(home: Home) -> None:
    home.fill()
    home.take(10)
    home.end_in_order()

    account, vhost = home.look()
    (store,) = vhost.stores

    assert (account.is_damaged, vhost.name, vhost.ended_in_order) == (False, "orders", True)
    assert (store.kind, store.name, store.messages, store.settled) == ("queue", "jobs", 90, 10)
    assert store.segments == store.segments_known == len(home.segments())
    assert store.messages == home.depth_after_a_start()


def test_after_a_sudden_end_the_journal_is_counted_in(home: Home) -> None:
    home.fill()
    home.write_back()
    home.fill(count=7)
    home.take(3)
    home.end_suddenly()

    _account, vhost = home.look()
    (store,) = vhost.stores

    assert vhost.journal.entries > 0 and store.journal_entries > 0
    assert not vhost.ended_in_order
    assert store.messages == MESSAGES + 4
    assert home.depth_after_a_start() == MESSAGES + 4


def test_messages_of_priorities_are_told_by_level(home: Home) -> None:
    home.client.declare("jobs", durable=True, arguments={"x-max-priority": 5})
    for number in range(9):
        properties = commands.Basic.Properties(delivery_mode=2, priority=number % 3)
        home.client.publish("", "jobs", b"%d" % number, properties=properties)
    home.end_in_order()

    assert home.queue().levels == {0: 3, 1: 3, 2: 3}


def test_messages_that_wait_at_an_exchange_are_told(home: Home) -> None:
    home.client.ask(
        commands.Exchange.Declare(
            exchange="later", exchange_type="x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
        )
    )
    properties = commands.Basic.Properties(delivery_mode=2, headers={"x-delay": 3_600_000})
    for _ in range(3):
        home.client.publish("later", "jobs", b"wait", properties=properties)
    home.end_in_order()

    store = home.queue()

    assert (store.kind, store.name, store.messages) == ("delayed", "later", 3)


def test_what_the_next_start_removes_is_told(home: Home) -> None:
    home.fill(count=2)
    home.end_in_order()
    (home.paths.vhost(1) / "queues" / "77").mkdir()

    _account, vhost = home.look()

    assert vhost.orphans == [str(home.paths.vhost(1) / "queues" / "77")]


def test_a_write_that_was_cut_short_is_no_damage(home: Home) -> None:
    home.fill(count=20)
    home.write_back()
    home.end_suddenly()
    shutil.rmtree(home.paths.vhost(1) / "journal")
    last = home.segments()[-1]
    os.truncate(last, len(last.read_bytes().rstrip(b"\0")) - 5)

    account, vhost = home.look(verifies=True)

    assert not account.is_damaged
    assert any("did not get to their end" in line for line in vhost.stores[0].start)


# damage ---------------------------------------------------------------------------------------------------------------


def test_a_damaged_place_is_named_with_what_is_lost(home: Home) -> None:
    home.fill()
    home.end_in_order()
    damaged = home.segments()[0]
    damage(damaged, 5000)
    assert not home.look()[0].is_damaged, "nobody has read it"

    account, vhost = home.look(verifies=True)

    assert account.is_damaged
    (place,) = vhost.damages
    assert (place.file, place.offset <= 5000 < place.offset + place.size_bytes) == (str(damaged), True)
    lost = MESSAGES - vhost.stores[0].messages
    assert lost > 0
    assert f"{lost} messages in 1 block" in place.what
    (sentence,) = vhost.sentences
    assert f"{lost} of " in sentence


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_segment_that_is_gone_or_cut_is_seen_without_reading_anything(home: Home, which: str) -> None:
    home.fill()
    home.end_in_order()
    path = home.segments()[0 if which == "first" else -1]
    if which == "first":
        path.unlink()
    else:
        os.truncate(path, 100)

    account, vhost = home.look()

    assert account.is_damaged
    assert [place.file for place in vhost.damages] == [str(path)]
    assert "are lost with it" in vhost.damages[0].what


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_byte_anywhere_is_found_and_survived(home: Home, seed: int) -> None:
    home.fill(count=30)
    home.take(5)
    home.end_in_order()
    files = [path for path in sorted(VHostDirectory(home.paths.vhost(1)).root.rglob("*")) if path.is_file()]
    ours = [path for path in files if path.suffix in (".messages", ".acks") or path.name == "segments"]
    path = ours[seed % len(ours)]
    at = seed * 7919 % path.stat().st_size
    damage(path, at, bytes([path.read_bytes()[at] ^ 0x55]))

    account, vhost = home.look(verifies=True)

    places = [place for place in vhost.damages if place.file == str(path)]
    assert vhost.damages or vhost.sentences or vhost.stores[0].messages == 25, "or it was one of those between blocks"
    assert all(place.size_bytes > 0 for place in places)
    assert account.is_damaged == bool(vhost.damages or vhost.sentences)


def test_definitions_that_are_damaged_are_told_and_other_vhosts_are_looked_at(home: Home) -> None:
    home.fill()
    home.end_in_order()
    shutil.copytree(home.paths.vhost(1), home.paths.vhost(2))
    (home.paths.vhost(1) / "definitions.sqlite").write_bytes(b"rotten" * 1000)

    account = inspect(home.paths.root, verifies=True)

    first, second = account.vhosts
    assert "damaged" in first.refusal
    assert (second.refusal, second.messages) == ("", MESSAGES)


# the command ----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_there_is(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.fill()
    home.end_in_order()

    code = main([str(home.paths.root), "--verify"])

    told = capsys.readouterr().out
    assert code == ExitCode.OK
    assert "vhost orders" in told
    assert "1 queue, 0 exchanges, 0 bindings; 100 messages" in told
    assert told.rstrip().endswith("every checksum was compared, and nothing is damaged")


def test_damage_has_an_exit_code_and_is_on_the_page(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.fill()
    home.end_in_order()
    damage(home.segments()[0], 5000)

    code = main([str(home.paths.root), "--verify"])

    assert code == ExitCode.STORE_DAMAGED
    assert f"{home.segments()[0]} at " in capsys.readouterr().out


def test_json_says_the_same(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.fill()
    home.end_in_order()

    assert main([str(home.paths.root), "--json"]) == ExitCode.OK

    told = json.loads(capsys.readouterr().out)
    assert told["vhosts"][0]["stores"][0]["messages"] == MESSAGES


def test_a_directory_that_a_broker_uses_is_refused_unless_asked_for(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.fill()
    with home.paths.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert main([str(home.paths.root)]) == ExitCode.DATA_DIRECTORY_IN_USE
        assert main([str(home.paths.root), "--running"]) == ExitCode.OK

    assert "a broker runs on it" in capsys.readouterr().out


def test_what_is_no_data_directory_of_ours_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == ExitCode.DATA_DIRECTORY_UNUSABLE
    (tmp_path / "format").write_text("ebbmq data format 99\n")
    assert main([str(tmp_path)]) == ExitCode.FORMAT_UNKNOWN
