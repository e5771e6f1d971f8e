"""The plain exchanges: word for word, to everybody, and by the queue's own name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import AccessRefused
from ipc.messages.commands import Level
from ipc.settings import CompactionSettings
from shards.compaction.cascade import cascade
from shards.compaction.compactable import ShrinkPolicy
from shards.model.bindings import Binding, arguments_key
from shards.model.exchanges.direct import DirectExchange
from shards.model.exchanges.exchange import Exchange
from shards.model.exchanges.fanout import FanoutExchange
from shards.model.exchanges.registry import EXCHANGE_TYPES
from tests.model.making import append, bare_queue, bind, declare, matches, take_all
from tests.protocols.conversation import World


def test_direct_leads_by_the_whole_key() -> None:
    exchange = DirectExchange("direct")
    bind(exchange, bare_queue("one"), "red")
    bind(exchange, bare_queue("two"), "red")
    bind(exchange, bare_queue("three"), "red.dark")

    assert matches(exchange, "red") == {"one", "two"}
    assert matches(exchange, "re") == set()
    assert matches(exchange, "") == set()


def test_fanout_leads_to_everything_bound() -> None:
    exchange = FanoutExchange("fanout")
    bind(exchange, bare_queue("one"), "red")
    bind(exchange, bare_queue("two"))

    assert matches(exchange, "blue") == {"one", "two"}


def made(kind: type[Exchange]) -> Exchange:
    """With the one argument that one of them cannot do without."""
    return kind("exchange", arguments={"x-delayed-type": "topic"})


@pytest.mark.parametrize("kind", EXCHANGE_TYPES.values(), ids=lambda kind: kind.type)
def test_a_second_equal_binding_changes_nothing(kind: type[Exchange]) -> None:
    exchange, queue = made(kind), bare_queue()
    first = bind(exchange, queue, "1")

    assert not exchange.bind(Binding(exchange, queue, "1", {}))

    exchange.unbind(first)
    assert not exchange.is_bound
    assert queue.inbound() == []


@pytest.mark.parametrize("kind", EXCHANGE_TYPES.values(), ids=lambda kind: kind.type)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "30"])), unique=True), st.randoms())
def test_bindings_come_and_go_in_any_order(kind: type[Exchange], wanted: list[tuple[str, str]], random: object) -> None:
    """Keys that all types understand: for one of them they are weights."""
    exchange = made(kind)
    queues = {name: bare_queue(name) for name in "abc"}
    bindings = [bind(exchange, queues[name], key) for name, key in wanted]
    random.shuffle(bindings)  # type: ignore[attr-defined]  # a random.Random of Hypothesis's

    while bindings:
        gone = bindings.pop()
        exchange.unbind(gone)
        assert exchange.find(gone.key) is None
        assert {binding.key for binding in exchange.bindings()} == {binding.key for binding in bindings}
    assert all(queue.inbound() == [] for queue in queues.values())


@pytest.mark.parametrize("kind", EXCHANGE_TYPES.values(), ids=lambda kind: kind.type)
def test_what_shrinks_after_its_worst_day_routes_as_before(kind: type[Exchange]) -> None:
    exchange = made(kind)
    bindings = [
        bind(exchange, bare_queue(str(number)), str(number), {"x-match": rule, "number": number})
        for number in range(1, 300)
        for rule in ("any", "all")
    ]
    for binding in bindings[20:]:
        exchange.unbind(binding)

    def routes() -> list[set[str]]:
        return [matches(exchange, str(number), {"number": number}) for number in range(1, 30)]

    before = routes()
    policy = ShrinkPolicy.at(CompactionSettings(ratio=1.0, floor_bytes=0), now=0)
    freed = sum(getattr(step, "size_bytes", 0) for _label, step in cascade(exchange, Level.CRITICAL, policy))

    assert freed > 10_000
    assert routes() == before
    for binding in bindings[:20]:
        exchange.unbind(binding)
    assert not any(routes())


def test_argument_tables_are_equal_whatever_the_order_of_their_fields() -> None:
    assert arguments_key({"a": 1, "b": [True, None]}) == arguments_key({"b": [True, None], "a": 1})
    assert arguments_key({"a": 1}) != arguments_key({"a": True})
    assert arguments_key({}) == b""


def test_the_default_exchange_leads_to_the_queue_of_that_name(world: World) -> None:
    declare(world.vhost, "jobs")
    default = world.vhost.exchange("")

    assert matches(default, "jobs") == {"jobs"}
    assert matches(default, "job") == set()


def test_the_default_exchange_forgets_a_deleted_queue(world: World) -> None:
    queue = declare(world.vhost, "jobs")
    append(queue, b"dig")
    assert take_all(queue) == [b"dig"]

    world.vhost.delete_queue(queue)

    assert matches(world.vhost.exchange(""), "jobs") == set()


def test_nothing_is_bound_to_the_default_exchange_or_from_it(world: World) -> None:
    default, other = world.vhost.exchange(""), world.vhost.exchange("amq.fanout")
    queue = declare(world.vhost, "jobs")

    for source, destination in ((default, queue), (default, other), (other, default)):
        with pytest.raises(AccessRefused):
            world.vhost.bind(source, destination, "", {})
        with pytest.raises(AccessRefused):
            world.vhost.unbind(source, destination, "", {})
