"""Definitions come back as they were committed, all of a commit or nothing, and a file that is not ours is refused."""

import itertools
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import ExitCode, StartRefused
from ipc.messages.commands import Level
from shards.compaction.cascade import cascade
from shards.compaction.compactable import Offload
from shards.store.arguments import decode_arguments, encode_arguments
from shards.store.definitions import (
    BindingDefinition,
    Change,
    Definitions,
    DropBinding,
    DropExchange,
    DropQueue,
    ExchangeDefinition,
    PutBinding,
    PutExchange,
    PutQueue,
    QueueDefinition,
    Stored,
)
from tests.compaction.policies import POLICY

TABLE = {
    "text": "grüße\0",
    "bytes": b"\x00\xff",
    "octets": bytearray(b"\x01"),
    "true": True,
    "one": 1,
    "least": -(2**63),
    "most": 2**64 - 1,
    "float": 0.1,
    "nothing": None,
    "decimal": Decimal("-12.340"),
    "utc": datetime(2024, 2, 29, 12, 30, 1, 5, UTC),
    "elsewhere": datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=2))),
    "naive": datetime(2024, 2, 29),
    "list": [1, "a", [Decimal(1), None], {"x": b"y"}],
    "table": {"nested": {"deeper": [datetime(1970, 1, 1, tzinfo=UTC)]}},
}

ORDERS = ExchangeDefinition("orders", "topic", arguments={"alternate-exchange": "lost"})
LOST = ExchangeDefinition("lost", "fanout", auto_delete=True, internal=True)
JOBS = QueueDefinition(1, "jobs", arguments={"x-max-length": 5})
MAIL = QueueDefinition(2, "mail", auto_delete=True)
ORDERS_TO_JOBS = BindingDefinition("orders", "jobs", "queue", "eu.#")
ORDERS_TO_LOST = BindingDefinition("orders", "lost", "exchange", "#", {"x": 1})
LOST_TO_MAIL = BindingDefinition("lost", "mail", "queue", "")

EVERYTHING: list[Change] = [
    PutExchange(ORDERS),
    PutExchange(LOST),
    PutQueue(JOBS),
    PutQueue(MAIL),
    PutBinding(ORDERS_TO_JOBS),
    PutBinding(ORDERS_TO_LOST),
    PutBinding(LOST_TO_MAIL),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "definitions.sqlite"


@pytest.fixture
def definitions(path: Path) -> Iterator[Definitions]:
    opened = Definitions(path)
    yield opened
    opened.close()


def reopened(path: Path) -> Stored:
    again = Definitions(path)
    try:
        return again.load()
    finally:
        again.close()


def refusal(path: Path) -> StartRefused:
    with pytest.raises(StartRefused) as caught:
        reopened(path)
    assert str(path) in str(caught.value)
    return caught.value


# changes --------------------------------------------------------------------------------------------------------------


def test_a_new_file_is_empty(definitions: Definitions) -> None:
    assert definitions.load() == ([], [], [])


def test_what_was_committed_comes_back_in_the_order_of_its_creation(definitions: Definitions, path: Path) -> None:
    definitions.commit(EVERYTHING)

    assert definitions.load() == Stored([ORDERS, LOST], [JOBS, MAIL], [ORDERS_TO_JOBS, ORDERS_TO_LOST, LOST_TO_MAIL])
    definitions.close()
    assert reopened(path) == Stored([ORDERS, LOST], [JOBS, MAIL], [ORDERS_TO_JOBS, ORDERS_TO_LOST, LOST_TO_MAIL])


def test_dropping_a_queue_drops_the_bindings_to_it(definitions: Definitions) -> None:
    definitions.commit([*EVERYTHING, DropQueue("mail")])

    assert definitions.load() == ([ORDERS, LOST], [JOBS], [ORDERS_TO_JOBS, ORDERS_TO_LOST])


def test_dropping_an_exchange_drops_the_bindings_from_and_to_it(definitions: Definitions) -> None:
    definitions.commit([*EVERYTHING, DropExchange("lost")])

    assert definitions.load() == ([ORDERS], [JOBS, MAIL], [ORDERS_TO_JOBS])


def test_a_queue_and_an_exchange_of_one_name_keep_their_own_bindings(definitions: Definitions) -> None:
    to_queue = BindingDefinition("orders", "same", "queue", "k")
    to_exchange = BindingDefinition("orders", "same", "exchange", "k")
    definitions.commit([PutBinding(to_queue), PutBinding(to_exchange), DropQueue("same")])

    assert definitions.load().bindings == [to_exchange]


def test_a_binding_goes_by_all_its_fields_whatever_the_order_of_its_arguments(definitions: Definitions) -> None:
    bindings = [BindingDefinition("e", "q", "queue", "k", arguments) for arguments in ({}, {"a": 1, "b": 2}, {"a": 1})]
    definitions.commit(PutBinding(binding) for binding in [*bindings, *bindings])

    definitions.commit([DropBinding(BindingDefinition("e", "q", "queue", "k", {"b": 2, "a": 1}))])

    assert definitions.load().bindings == [bindings[0], bindings[2]]


def test_putting_again_replaces(definitions: Definitions) -> None:
    renumbered = QueueDefinition(9, "jobs", arguments={"x-expires": 1})
    definitions.commit([*EVERYTHING, PutQueue(renumbered), PutExchange(ExchangeDefinition("lost", "direct"))])

    assert definitions.load().queues == [renumbered, MAIL]
    assert definitions.load().exchanges == [ORDERS, ExchangeDefinition("lost", "direct")]


def test_names_may_be_any_text(definitions: Definitions, path: Path) -> None:
    names = ["", "a\0b", "a\0c", "'; DROP TABLE queues; --", "снег\n", "\U0001f40c", "x" * 255]
    queues = [QueueDefinition(number, name) for number, name in enumerate(names)]
    definitions.commit(PutQueue(queue) for queue in queues)
    definitions.commit([DropQueue("a\0b")])

    assert definitions.load().queues == [queue for queue in queues if queue.name != "a\0b"]


def test_a_commit_that_fails_changes_nothing_and_the_next_one_works(definitions: Definitions) -> None:
    def running_out() -> Iterator[Change]:
        yield PutQueue(JOBS)
        raise MemoryError

    with pytest.raises(MemoryError):
        definitions.commit(running_out())
    assert definitions.load().queues == []

    definitions.commit([PutQueue(JOBS)])
    assert definitions.load().queues == [JOBS]


def test_a_full_disk_is_an_os_error_and_the_same_changes_go_through_later(path: Path) -> None:
    definitions = Definitions(path)
    changes = [PutQueue(QueueDefinition(number, "q" * 200 + str(number))) for number in range(2000)]
    limit = definitions._database.execute("PRAGMA page_count").fetchone()[0]
    definitions._database.execute(f"PRAGMA max_page_count = {limit}")  # SQLite's own way to be full

    with pytest.raises(OSError, match="No space left"):
        definitions.commit(changes)
    assert definitions.load().queues == []

    definitions._database.execute("PRAGMA max_page_count = 1000000")
    definitions.commit(changes)
    assert len(definitions.load().queues) == 2000
    definitions.close()


# older formats --------------------------------------------------------------------------------------------------------

FORMAT_1 = """
CREATE TABLE exchanges (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, auto_delete INTEGER NOT NULL, internal INTEGER NOT NULL,
    arguments BLOB NOT NULL);
CREATE TABLE queues (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, auto_delete INTEGER NOT NULL, arguments BLOB NOT NULL);
CREATE TABLE bindings (
    source TEXT NOT NULL, destination_kind TEXT NOT NULL, destination TEXT NOT NULL, routing_key TEXT NOT NULL,
    arguments BLOB NOT NULL,
    PRIMARY KEY (source, destination_kind, destination, routing_key, arguments));
CREATE INDEX bindings_by_destination ON bindings (destination_kind, destination);
INSERT INTO exchanges VALUES
    ('gone', 'direct', 0, 0, x'80'), ('orders', 'topic', 0, 0, x'80'), ('lost', 'fanout', 1, 1, x'80');
DELETE FROM exchanges WHERE name = 'gone';
INSERT INTO queues VALUES ('jobs', 2, 0, x'81a17801');
INSERT INTO bindings VALUES ('orders', 'queue', 'jobs', 'eu.#', x'80');
PRAGMA application_id = 1164075597;
PRAGMA user_version = 1;
"""


@pytest.fixture
def format_1(path: Path) -> Path:
    old = sqlite3.connect(path)
    old.executescript(FORMAT_1)
    old.close()
    return path


def test_format_1_is_brought_up_to_date_and_its_exchanges_get_numbers(format_1: Path) -> None:
    expected = Stored(
        [
            ExchangeDefinition("orders", "topic", number=2),
            ExchangeDefinition("lost", "fanout", auto_delete=True, internal=True, number=3),
        ],
        [QueueDefinition(2, "jobs", arguments={"x": 1})],
        [BindingDefinition("orders", "jobs", "queue", "eu.#")],
    )

    assert reopened(format_1) == expected
    assert reopened(format_1) == expected


def test_a_vhost_of_format_1_goes_on_as_if_nothing_had_changed(format_1: Path) -> None:
    definitions = Definitions(format_1)
    definitions.commit([PutExchange(ExchangeDefinition("later", "direct", number=7)), DropExchange("lost")])

    assert [(exchange.name, exchange.number) for exchange in definitions.load().exchanges] == [
        ("orders", 2),
        ("later", 7),
    ]
    definitions.close()


# arguments ------------------------------------------------------------------------------------------------------------


def exactly(value: Any) -> Any:
    """A value with its types, so that 1, 1.0 and True differ, and so do bytes and bytearray."""
    if isinstance(value, dict):
        return {name: exactly(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value).__name__, repr(value) if isinstance(value, float | Decimal | datetime) else value


def test_every_kind_of_argument_comes_back_as_what_it_was(definitions: Definitions, path: Path) -> None:
    definitions.commit([PutQueue(QueueDefinition(1, "q", arguments=TABLE))])
    definitions.close()

    (queue,) = reopened(path).queues

    assert queue.arguments["utc"] == TABLE["utc"]
    assert queue.arguments["elsewhere"] == TABLE["elsewhere"]
    assert set(queue.arguments) == set(TABLE)
    for name, value in TABLE.items():
        if name != "utc":
            assert str(exactly(queue.arguments[name])) == str(exactly(value)), name


scalars = (
    st.text()
    | st.binary()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.none()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.sampled_from([None, UTC])).map(lambda moment: moment.replace(fold=0))
    | st.binary().map(bytearray)
)
tables = st.dictionaries(
    st.text(max_size=8),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)),
    max_size=5,
)


@given(tables)
@settings(max_examples=150, deadline=None)
def test_any_table_survives_its_bytes(table: dict[str, Any]) -> None:
    assert exactly(decode_arguments(encode_arguments(table))) == exactly(table)


def test_equal_tables_are_equal_bytes() -> None:
    assert encode_arguments({"a": 1, "b": {"c": 2, "d": 3}}) == encode_arguments({"b": {"d": 3, "c": 2}, "a": 1})


# files that are not ours ----------------------------------------------------------------------------------------------


def test_a_newer_format_is_refused(path: Path) -> None:
    Definitions(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 3")
    newer.close()

    refused = refusal(path)

    assert refused.exit_code is ExitCode.FORMAT_UNKNOWN
    assert "format 3" in str(refused)


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE cookies (name)")
    foreign.close()
    before = path.read_bytes()

    assert refusal(path).exit_code is ExitCode.FORMAT_UNKNOWN
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough for a header of one hundred bytes " * 3)
    before = path.read_bytes()

    assert refusal(path).exit_code is ExitCode.STORE_DAMAGED
    assert path.read_bytes() == before


def overwrite_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def drop_table(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("DROP TABLE queues")
    database.close()


def spoil_arguments(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE exchanges SET arguments = x'ffff'")
    database.commit()
    database.close()


@pytest.mark.parametrize("damage", [overwrite_middle, truncate, drop_table, spoil_arguments])
def test_a_damaged_file_is_refused(path: Path, damage: Callable[[Path], None]) -> None:
    definitions = Definitions(path)
    definitions.commit(EVERYTHING)
    definitions.commit(PutQueue(QueueDefinition(number + 10, f"queue {number}")) for number in range(500))
    definitions.close()
    damage(path)

    assert refusal(path).exit_code is ExitCode.STORE_DAMAGED


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing" / "definitions.sqlite").exit_code is ExitCode.DATA_DIRECTORY_UNUSABLE


def test_a_creation_that_was_cut_off_is_begun_again(path: Path) -> None:
    path.touch()
    assert reopened(path) == ([], [], [])


# death in the middle --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from shards.store.definitions import *
definitions = Definitions(sys.argv[1])
for number in range(1, 100000):
    queue = QueueDefinition(number, f"queue {number}")
    definitions.commit([PutQueue(queue), PutBinding(BindingDefinition("e", queue.name, "queue", "k"))])
    print(number, flush=True)
"""


@pytest.mark.parametrize("commits", [1, 30])
def test_a_process_killed_while_committing_loses_nothing_it_was_told_is_safe(path: Path, commits: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    for _ in range(commits):
        assert writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    committed = commits + len(writer.stdout.read().splitlines())
    writer.stdout.close()
    writer.wait()

    stored = reopened(path)

    assert committed <= len(stored.queues) <= committed + 1
    assert [queue.number for queue in stored.queues] == list(range(1, len(stored.queues) + 1))
    assert [binding.destination for binding in stored.bindings] == [queue.name for queue in stored.queues]


# memory ---------------------------------------------------------------------------------------------------------------


def test_compaction_drops_the_page_cache_in_a_thread_where_pages_are_released(
    definitions: Definitions,
) -> None:
    assert not [step for _, step in cascade(definitions, Level.TRIM, POLICY) if isinstance(step, Offload)]

    (offload,) = [step for _, step in cascade(definitions, Level.RELEASE, POLICY) if isinstance(step, Offload)]
    offload.work()
    definitions.commit(EVERYTHING)

    definitions.close()
    offload.work()  # a vhost closed between step and thread


# what a commit may meet -----------------------------------------------------------------------------------------------

COMMITTED: tuple[Change, ...] = (
    PutExchange(ExchangeDefinition("another", "topic", number=9)),
    PutQueue(QueueDefinition(7, "seventh", arguments={"x-max-length": 3})),
    PutBinding(BindingDefinition("another", "seventh", "queue", "a.#")),
    DropQueue("first"),
)
STEPS_MAX = 5_000


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Where there is a file system in memory SQLite's syncs cost nothing."""
    place = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(dir=place if place.is_dir() else None))
    yield home
    shutil.rmtree(home, ignore_errors=True)


def _prepared(path: Path) -> Definitions:
    definitions = Definitions(str(path))
    definitions.commit([PutQueue(QueueDefinition(1, "first")), PutQueue(QueueDefinition(2, "second"))])
    return definitions


def _names(stored: Stored) -> list[str]:
    return [queue.name for queue in stored.queues]


def _left_by_an_end(path: Path, home: Path) -> Stored:
    """What another process would find now, as after a kill -9."""
    home.mkdir()
    for file in path.parent.iterdir():
        if file.is_file():
            (home / file.name).write_bytes(file.read_bytes())
    definitions = Definitions(str(home / path.name))
    stored = definitions.load()
    definitions.close()
    return stored


def test_a_commit_that_is_interrupted_at_any_step_is_whole_or_not_there(in_memory: Path) -> None:
    """The steps are SQLite's own: instructions of its statements. At the last it is done, and nobody is told so."""
    for step in range(1, STEPS_MAX):
        home = in_memory / str(step)
        home.mkdir()
        definitions = _prepared(home / "definitions")
        before = definitions.load()
        left = step

        def interrupt() -> int:
            nonlocal left
            left -= 1
            return left == 0

        definitions._database.set_progress_handler(interrupt, 1)
        was_interrupted = False
        try:
            definitions.commit(COMMITTED)
        except (OSError, sqlite3.OperationalError):
            was_interrupted = True
        definitions._database.set_progress_handler(None, 0)
        found = _left_by_an_end(home / "definitions", home / "left")
        if was_interrupted:
            assert found == definitions.load()
            assert found == before or _names(found) == ["second", "seventh"], "half of it"
            definitions.commit(COMMITTED)
            found = _left_by_an_end(home / "definitions", home / "again")
        assert _names(found) == ["second", "seventh"]
        assert [binding.destination for binding in found.bindings] == ["seventh"]
        definitions.close()
        shutil.rmtree(home)
        if not was_interrupted:
            assert step > 20
            return
    raise AssertionError("the commit does not end")


def test_an_end_at_any_step_of_a_commit_leaves_all_of_it_or_nothing(in_memory: Path) -> None:
    definitions = _prepared(in_memory / "definitions")
    before = definitions.load()
    steps = itertools.count()
    found: list[Stored] = []

    def look() -> int:
        found.append(_left_by_an_end(in_memory / "definitions", in_memory / str(next(steps))))
        return 0

    definitions._database.set_progress_handler(look, 1)
    definitions.commit(COMMITTED)
    definitions._database.set_progress_handler(None, 0)
    after = definitions.load()
    definitions.close()

    assert len(found) > 20
    assert all(stored in (before, after) for stored in found)
    assert _left_by_an_end(in_memory / "definitions", in_memory / "closed") == after


def test_a_commit_that_finds_no_room_at_any_byte_leaves_nothing_and_can_be_repeated(in_memory: Path) -> None:
    """Files may not grow beyond a limit, which every write of SQLite meets in turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for room_bytes in itertools.count(0, 512):
        home = in_memory / str(room_bytes)
        home.mkdir()
        definitions = _prepared(home / "definitions")
        before = definitions.load()
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
        try:
            definitions.commit(COMMITTED)
            was_refused = False
        except (OSError, sqlite3.OperationalError):
            was_refused = True
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if was_refused:
            refused += 1
            assert _left_by_an_end(home / "definitions", home / "left") == before == definitions.load()
            definitions.commit(COMMITTED)
        found = _left_by_an_end(home / "definitions", home / "again")
        assert _names(found) == ["second", "seventh"]
        definitions.close()
        shutil.rmtree(home)
        if not was_refused:
            assert refused > 5
            return
