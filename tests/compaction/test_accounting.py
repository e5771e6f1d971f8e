"""The account counts what every owner declares, for whom it is held, and names the largest."""

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pytest

from ipc.limits import COLLECTIONS_PER_STEP
from shards.compaction.accounting import Account
from shards.compaction.compactable import Compactable


class Owner(Compactable):
    """Slotted, with one collection and any children."""

    __slots__ = ("below", "held")
    COLLECTIONS = ("held",)
    KIND = "own"
    KINDS: ClassVar[Mapping[str, str]] = {"held": "held"}

    def __init__(self, *below: Compactable, held: Any = None) -> None:
        self.below = below
        self.held = held

    def children(self) -> Iterable[Compactable]:
        return self.below


class Named(Owner):
    __slots__ = ("name",)

    def __init__(self, name: str, *below: Compactable, held: Any = None) -> None:
        super().__init__(*below, held=held)
        self.name = name


class VHost(Named):
    __slots__ = ()
    SORT = "vhost"

    @property
    def compaction_label(self) -> str:
        return self.name


class Queue(Named):
    __slots__ = ()
    SORT = "queue"


class Connection(Named):
    __slots__ = ()
    SORT = "connection"


class Buffered(Owner):
    """Holds a buffer that is no declared collection."""

    __slots__ = ("buffer",)
    KINDS: ClassVar[Mapping[str, str]] = {"held": "more"}

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.buffer = bytearray(size_bytes)

    def holdings(self) -> Iterable[tuple[str, int]]:
        return (("buffer", len(self.buffer)), ("own", 1))


class Nesting(Compactable):
    __slots__ = ("index",)
    NESTED = ("index",)

    def __init__(self, index: Any) -> None:
        self.index = index


def account(root: Compactable, *, top: int = 10, vhost: str | None = None) -> Account:
    taken = Account(top=top, vhost=vhost)
    for _ in taken.take(root):
        pass
    return taken


def size(entries: int) -> int:
    return sys.getsizeof(dict.fromkeys(range(entries)))


def held(entries: int) -> dict[int, None]:
    return dict.fromkeys(range(entries))


def test_owners_and_their_collections_add_up_by_kind() -> None:
    root = Owner(Owner(held=held(10)), Owner(held=held(1000)), held=set(range(50)))

    taken = account(root)

    assert taken.owners == 3
    assert taken.by_kind == {
        "own": 3 * sys.getsizeof(root),
        "held": size(10) + size(1000) + sys.getsizeof(set(range(50))),
    }


def test_kinds_come_from_the_class_where_none_is_declared() -> None:
    assert set(account(Nesting({})).by_kind) == {"nesting"}


def test_kinds_add_up_along_the_classes() -> None:
    taken = account(Buffered(100))

    assert taken.by_kind["buffer"] == 100
    assert taken.by_kind["own"] == sys.getsizeof(Buffered(0)) + 1


def test_nested_collections_count_to_any_depth_and_other_values_do_not() -> None:
    inner: dict[str, Any] = {"deque": deque(range(10)), "text": "x" * 1000}
    index = {"a": inner, "b": set(range(10))}

    taken = account(Nesting(index))

    expected = sys.getsizeof(index) + sys.getsizeof(inner)
    expected += sys.getsizeof(deque(range(10))) + sys.getsizeof(set(range(10)))
    assert taken.by_kind["nesting"] == expected + sys.getsizeof(Nesting({}))


@pytest.mark.parametrize("index", [None, "text", 7])
def test_an_attribute_without_a_collection_counts_nothing(index: Any) -> None:
    assert account(Nesting(index)).by_kind == {"nesting": sys.getsizeof(Nesting(None))}


def test_what_is_below_somebody_who_is_named_counts_for_him_and_for_his_vhost() -> None:
    queue = Queue("jobs", Owner(held=held(100)))
    other = Queue("other")
    root = Owner(VHost("/", queue, other, held=held(10)), Owner(held=held(5)))

    taken = account(root)

    first, second = taken.largest("queue")
    assert (first.vhost, first.name) == ("/", "jobs")
    assert first.by_kind == {"own": sys.getsizeof(queue) + sys.getsizeof(Owner()), "held": size(100)}
    assert first.size_bytes == sum(first.by_kind.values())
    assert (second.name, second.by_kind) == ("other", {"own": sys.getsizeof(other)})
    (vhost,) = taken.largest("vhost")
    assert (vhost.vhost, vhost.name) == ("/", "/")
    assert vhost.by_kind["held"] == size(100) + size(10)
    assert taken.by_kind["held"] == size(100) + size(10) + size(5)
    assert taken.counts == {"vhost": 1, "queue": 2, "connection": 0}


def test_only_the_largest_are_named_and_all_are_counted() -> None:
    sizes = [5, 500, 50, 5000, 1]
    root = VHost("/", *(Connection(f"c{entries}", held=held(entries)) for entries in sizes))

    taken = account(root, top=2)

    assert [holding.name for holding in taken.largest("connection")] == ["c5000", "c500"]
    assert taken.counts["connection"] == 5
    assert taken.by_kind["held"] == sum(map(size, sizes))


def test_of_equals_the_first_are_named() -> None:
    root = VHost("/", *(Queue(f"q{number}") for number in range(5)))

    named = [holding.name for holding in account(root, top=2).largest("queue")]

    assert named == [holding.name for holding in account(root, top=5).largest("queue")][:2]


def test_nobody_may_be_named() -> None:
    assert account(VHost("/", Queue("q")), top=0).largest("queue") == []


def test_an_account_of_one_vhost_counts_nothing_else() -> None:
    orders = VHost("orders", Queue("b", held=held(1000)))
    root = Owner(VHost("/", Queue("a", held=held(10))), orders, Owner(held=held(100)), held=held(500))

    taken = account(root, vhost="orders")

    assert taken.by_kind == account(orders).by_kind
    assert taken.counts == {"vhost": 1, "queue": 1, "connection": 0}
    assert account(root, vhost="no such vhost").by_kind == {}
    assert [holding.name for holding in taken.largest("queue")] == ["b"]
    assert [holding.vhost for holding in taken.largest("vhost")] == ["orders"]


def test_a_large_nested_collection_is_walked_in_many_steps() -> None:
    taken = Account(top=0)
    index = {number: {number: None} for number in range(10 * COLLECTIONS_PER_STEP)}

    assert sum(1 for _ in taken.take(Nesting(index))) > 10


def test_a_deep_tree_needs_no_recursion() -> None:
    root = Owner()
    for _ in range(5000):
        root = Owner(root)

    assert account(root).owners == 5001


def test_children_that_come_and_go_in_the_middle_do_no_harm() -> None:
    class Changing(Owner):
        __slots__ = ("index",)

        def __init__(self) -> None:
            super().__init__()
            self.index: dict[int, Compactable] = {number: Owner() for number in range(5)}

        def children(self) -> Iterable[Compactable]:
            return self.index.values()

    root = Changing()
    steps = Account(top=1).take(root)
    next(steps)
    root.index.clear()
    root.index.update({number: Owner() for number in range(100)})

    assert sum(1 for _ in steps) == 5
