"""The topic trie agrees with the plainest matcher there is, keeps nothing it does not need, and stays cheap."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.compaction.compactable import Compactable
from shards.model.exchanges.topic import TopicExchange
from tests.model.making import bare_queue, bind, matches

words = st.sampled_from(["a", "b", "c", ""])
patterns = st.lists(st.one_of(words, st.sampled_from(["*", "#"])), max_size=5).map(".".join)
keys = patterns  # what looks like a wildcard in a message's key is a word like any other


def naive(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """The definition of the specification (§3.1.3.3), word by word."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return naive(pattern[1:], key) or (bool(key) and naive(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and naive(pattern[1:], key[1:])


def split(key: str) -> list[str]:
    return key.split(".") if key else []


def nodes(exchange: TopicExchange) -> int:
    """Nodes of the trie, root included."""

    def below(owner: Compactable) -> int:
        return 1 + sum(map(below, owner.children()))

    return sum(map(below, exchange.children()))


@given(st.lists(patterns, max_size=12, unique=True), keys)
def test_the_trie_finds_what_a_naive_matcher_finds(bound: list[str], key: str) -> None:
    exchange = TopicExchange("logs")
    for pattern in bound:
        bind(exchange, bare_queue(pattern), pattern)

    assert matches(exchange, key) == {pattern for pattern in bound if naive(split(pattern), split(key))}


@given(st.lists(patterns, max_size=12, unique=True), st.data())
def test_unbinding_leaves_the_others_and_no_empty_nodes(bound: list[str], data: st.DataObject) -> None:
    exchange = TopicExchange("logs")
    bindings = {pattern: bind(exchange, bare_queue(pattern), pattern) for pattern in bound}
    gone = data.draw(st.sets(st.sampled_from(bound))) if bound else set()
    for pattern in data.draw(st.permutations(sorted(gone))):
        exchange.unbind(bindings.pop(pattern))

    fresh = TopicExchange("fresh")
    for pattern in bindings:
        bind(fresh, bare_queue(pattern), pattern)
    assert nodes(exchange) == nodes(fresh)
    for pattern in bindings:
        assert pattern in matches(exchange, pattern.replace("*", "x").replace("#", "y"))


def test_the_last_unbinding_leaves_nothing_but_the_root() -> None:
    exchange = TopicExchange("logs")
    binding = bind(exchange, bare_queue(), "a.*.#.b")

    exchange.unbind(binding)

    assert nodes(exchange) == 1
    assert not exchange.is_bound
    assert matches(exchange, "a.x.b") == set()


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("#", "", True),
        ("*", "", False),
        ("", "", True),
        ("*", "one", True),
        ("*", "one.two", False),
        ("orders.*.eu", "orders.new.eu", True),
        ("orders.*.eu", "orders.eu", False),
        ("orders.#", "orders", True),
        ("#.eu", "eu", True),
        ("#.#", "", True),
        ("*.#.*", "one", False),
        ("*.#.*", "one.two", True),
        ("a*", "ab", False),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
        ("a.b", "a.*", False),
        ("a.*", "a.*", True),
        ("a.b", "a.#", False),
        ("a.*", "a.#", True),
        ("a.#", "a.#.b", True),
        ("*", "#", True),
    ],
)
def test_wildcards_stand_for_whole_words(pattern: str, key: str, is_match: bool) -> None:
    exchange = TopicExchange("logs")
    bind(exchange, bare_queue(), pattern)

    assert bool(matches(exchange, key)) is is_match


class Counted(str):
    """A word that counts how often the trie looks for it."""

    looks = 0
    __slots__ = ()

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()


def test_a_key_full_of_wildcards_stays_cheap() -> None:
    """128 words against 32 times `#.` would be astronomically many walks; each node is entered once for each word."""
    exchange = TopicExchange("logs")
    bind(exchange, bare_queue(), "#." * 32 + "never")

    class Key(str):
        __slots__ = ()

        def split(self, *_arguments: object, **_more: object) -> list[str]:
            return [Counted("a")] * 128

    Counted.looks = 0
    assert matches(exchange, Key("a")) == set()

    assert Counted.looks <= 33 * 129


@pytest.mark.parametrize("pattern", [".".join(["*"] * 100), ".".join(["#"] * 100), "#." + ".".join(["*"] * 99)])
def test_a_message_whose_key_looks_like_a_pattern_stays_cheap(pattern: str) -> None:
    """If a wildcard were also found as the word it looks like, each word would double the walks."""
    exchange = TopicExchange("logs")
    queue = bare_queue()
    bind(exchange, queue, pattern)

    assert list(exchange.match(pattern, dict)) == [queue]


@pytest.mark.parametrize("pattern", ["{}.*.created", "#.{}", "order.{}.#"])
def test_what_a_key_costs_does_not_depend_on_the_number_of_bindings(pattern: str) -> None:
    class Key(str):
        __slots__ = ()

        def split(self, *_arguments: object, **_more: object) -> list[str]:
            return [Counted(word) for word in super().split(".")]

    def looks(bindings: int) -> int:
        exchange = TopicExchange("logs")
        for number in range(bindings):
            bind(exchange, bare_queue(), pattern.format(number))
        Counted.looks = 0
        assert matches(exchange, Key(pattern.format(7).replace("*", "order")))
        return Counted.looks

    assert looks(5_000) == looks(50)


def test_two_bindings_with_one_key_are_both_found_and_go_one_by_one() -> None:
    exchange = TopicExchange("logs")
    one, two = bare_queue("one"), bare_queue("two")
    first = bind(exchange, one, "a.#")
    bind(exchange, two, "a.#")

    assert matches(exchange, "a.b") == {"one", "two"}
    exchange.unbind(first)
    assert matches(exchange, "a.b") == {"two"}
