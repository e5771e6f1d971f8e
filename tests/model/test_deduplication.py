"""What a deduplicating queue or exchange remembers, and for how long."""

import sys

import pytest

from ipc.limits import DEDUPLICATION_KEY_BYTES_MAX
from ipc.wire.amqp.amending import number, text
from shards.model.deduplication import Deduplication
from shards.model.queues.terms import Terms

HEADER = "x-deduplication-header"


def deduplication(**terms: int | str) -> Deduplication:
    return Deduplication(Terms(deduplicates=True, **terms))  # type: ignore[arg-type]


def message(value: bytes, **more: bytes) -> dict[str, bytes]:
    return {HEADER: value} | {name.replace("_", "-"): field for name, field in more.items()}


def comes_again(memory: Deduplication, value: bytes, now: int = 0, **more: bytes) -> bool:
    """Whether it is a duplicate; remembered otherwise."""
    if memory.is_duplicate(message(value), now):
        return True
    memory.remember(message(value, **more), now)
    return False


def test_a_message_is_known_once_it_was_remembered() -> None:
    memory = deduplication()

    assert [comes_again(memory, text(key)) for key in ("a", "b", "a", "b", "c")] == [False, False, True, True, False]
    assert memory.deduplicated_count == 2


def test_the_kind_of_a_value_counts() -> None:
    memory = deduplication()

    assert not comes_again(memory, text("1"))
    assert not comes_again(memory, number(1))
    assert comes_again(memory, number(1))


@pytest.mark.parametrize("value", [b"", b"V", b"\0"], ids=["missing", "void", "zero"])
def test_without_a_value_a_message_is_always_new(value: bytes) -> None:
    memory = deduplication()

    assert not comes_again(memory, value)
    assert not comes_again(memory, value)
    assert memory.remembered_count == 0


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    memory = deduplication(deduplicated_max=2)
    for key in "abc":
        comes_again(memory, text(key))

    assert memory.remembered_count == 2
    assert memory.is_duplicate(message(text("b")), 0)
    assert memory.is_duplicate(message(text("c")), 0)
    assert not memory.is_duplicate(message(text("a")), 0)


def test_coming_again_does_not_prolong_it() -> None:
    memory = deduplication(deduplicated_ttl=1000)
    comes_again(memory, text("a"), 0)

    assert comes_again(memory, text("a"), 999)
    assert not comes_again(memory, text("a"), 1000)
    assert comes_again(memory, text("a"), 1999)


def test_a_message_may_say_itself_for_how_long() -> None:
    memory = deduplication(deduplicated_ttl=1000)
    comes_again(memory, text("short"), 0, x_cache_ttl=number(10))
    comes_again(memory, text("long"), 0, x_cache_ttl=b"I\x00\x00\x13\x88")
    comes_again(memory, text("unclear"), 0, x_cache_ttl=text("soon"))
    comes_again(memory, text("past"), 0, x_cache_ttl=number(-1))

    assert [comes_again(memory, text(key), 500) for key in ("short", "long", "unclear", "past")] == [
        False,
        True,
        True,
        True,
    ]
    assert comes_again(memory, text("long"), 4999)


def test_what_was_forgotten_by_time_and_came_back_is_the_youngest() -> None:
    memory = deduplication(deduplicated_max=2, deduplicated_ttl=100)
    comes_again(memory, text("a"), 0)
    comes_again(memory, text("b"), 50)
    comes_again(memory, text("a"), 120)

    comes_again(memory, text("c"), 130)

    assert memory.is_duplicate(message(text("a")), 140)
    assert not memory.is_duplicate(message(text("b")), 140)


def test_long_values_are_told_apart_and_cost_no_more_than_short_ones() -> None:
    memory = deduplication()
    long = "x" * 100_000

    assert not comes_again(memory, text(long + "1"))
    assert not comes_again(memory, text(long + "2"))
    assert comes_again(memory, text(long + "1"))
    assert all(sys.getsizeof(key) < 2 * DEDUPLICATION_KEY_BYTES_MAX for key in memory._seen)


def test_the_header_may_have_another_name() -> None:
    memory = deduplication(deduplication_header="order")
    memory.remember({"order": text("7"), HEADER: text("1")}, 0)

    assert memory.is_duplicate({"order": text("7")}, 0)
    assert not memory.is_duplicate({HEADER: text("1")}, 0)
