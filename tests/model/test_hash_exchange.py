"""The consistent hash exchange: one destination a message, shares by weight, changes that move only what they must."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from ipc.errors import PreconditionFailed
from ipc.limits import HASH_BUCKETS_MAX, HASH_RING_POINTS_PER_WEIGHT, HASH_RING_WEIGHT_MAX
from shards.model.bindings import Arguments, Binding, Destination
from shards.model.exchanges.consistent_hash import ConsistentHashExchange
from shards.model.exchanges.fanout import FanoutExchange
from shards.model.exchanges.hash_ring import HashRing
from shards.model.exchanges.hashing import hashed, jump, numbers
from tests.model.making import bare_queue, bind, declare, declare_exchange, matches
from tests.protocols.conversation import World

WHERE = "exchange 'shares' in vhost '/'"
ALGORITHMS = ("jump", "ring")
KEYS = [f"key-{number}" for number in range(2_000)]

both = pytest.mark.parametrize("algorithm", ALGORITHMS)


def hashing(algorithm: str = "jump", **arguments: Any) -> ConsistentHashExchange:
    return ConsistentHashExchange("shares", arguments={"x-algorithm": algorithm, **arguments})


def share_out(exchange: ConsistentHashExchange, weights: dict[str, int]) -> dict[str, Binding]:
    return {name: bind(exchange, bare_queue(name), str(weight)) for name, weight in weights.items()}


def placed(exchange: ConsistentHashExchange, keys: Iterable[str] = KEYS) -> dict[str, str]:
    """Where each key goes: to exactly one destination."""
    places = {}
    for key in keys:
        (places[key],) = matches(exchange, key)
    return places


def moved(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str]]:
    return [(before[key], after[key]) for key in before if before[key] != after[key]]


# shares ---------------------------------------------------------------------------------------------------------------


@both
def test_without_a_binding_a_message_goes_nowhere(algorithm: str) -> None:
    exchange = hashing(algorithm)
    assert matches(exchange, "key") == set()

    exchange.unbind(bind(exchange, bare_queue(), "3"))

    assert matches(exchange, "key") == set()


@both
def test_one_binding_gets_everything(algorithm: str) -> None:
    exchange = hashing(algorithm)
    share_out(exchange, {"only": 1})

    assert set(placed(exchange).values()) == {"only"}


@both
def test_shares_follow_weights(algorithm: str) -> None:
    weights = {"one": 10, "two": 20, "three": 30, "four": 40}
    exchange = hashing(algorithm)
    share_out(exchange, weights)

    counts = Counter(placed(exchange).values())

    for name, weight in weights.items():
        assert counts[name] == pytest.approx(len(KEYS) * weight / 100, rel=0.2)


@both
def test_bindings_of_weight_one_share_evenly_enough(algorithm: str) -> None:
    exchange = hashing(algorithm)
    share_out(exchange, {str(number): 1 for number in range(10)})

    counts = Counter(placed(exchange).values())

    assert len(counts) == 10
    assert max(counts.values()) < 3 * min(counts.values())


@both
def test_a_key_goes_to_the_same_destination_every_time(algorithm: str) -> None:
    exchange = hashing(algorithm)
    share_out(exchange, {"one": 1, "two": 2, "three": 3})

    assert placed(exchange) == placed(exchange)


@both
def test_an_exchange_and_a_queue_of_one_name_are_two_destinations(algorithm: str) -> None:
    exchange = hashing(algorithm)
    destinations: list[Destination] = [bare_queue("same"), FanoutExchange("same")]
    for destination in destinations:
        bind(exchange, destination, "1")

    found = [destination for key in KEYS for destination in exchange.match(key, dict)]

    assert all(found.count(destination) > len(KEYS) // 4 for destination in destinations)


# changes --------------------------------------------------------------------------------------------------------------


@both
def test_a_new_binding_takes_from_all_others_and_moves_nothing_else(algorithm: str) -> None:
    exchange = hashing(algorithm)
    share_out(exchange, {str(number): 2 for number in range(8)})
    before = placed(exchange)

    share_out(exchange, {"new": 2})

    changes = moved(before, placed(exchange))
    assert {after for _, after in changes} == {"new"}
    assert len({before for before, _ in changes}) == 8
    assert len(changes) == pytest.approx(len(KEYS) / 9, rel=0.3)


def test_a_binding_that_leaves_the_ring_gives_up_its_share_and_moves_nothing_else() -> None:
    exchange = hashing("ring")
    bindings = share_out(exchange, {str(number): 2 for number in range(8)})
    before = placed(exchange)

    exchange.unbind(bindings["3"])

    changes = moved(before, placed(exchange))
    assert {before for before, _ in changes} == {"3"}
    assert len({after for _, after in changes}) == 7


def test_a_binding_that_leaves_the_buckets_moves_its_share_and_that_of_the_last_ones() -> None:
    exchange = hashing("jump")
    bindings = share_out(exchange, {str(number): 2 for number in range(8)})
    before = placed(exchange)

    exchange.unbind(bindings["3"])

    changes = moved(before, placed(exchange))
    assert {before for before, _ in changes} == {"3", "7"}
    assert "3" not in placed(exchange).values()


@both
def test_a_heavier_binding_keeps_what_it_had(algorithm: str) -> None:
    exchange = hashing(algorithm)
    share_out(exchange, {"one": 5, "two": 5})
    last = bind(exchange, queue := bare_queue("last"), "5")
    before = placed(exchange)

    exchange.unbind(last)
    bind(exchange, queue, "7")

    changes = moved(before, placed(exchange))
    assert {after for _, after in changes} == {"last"}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1),
    st.lists(st.sampled_from("abcdef")),
    st.randoms(),
)
def test_the_ring_does_not_remember_how_it_came_about(weights: dict[str, int], gone: list[str], random: Any) -> None:
    exchange = hashing("ring")
    bindings = share_out(exchange, weights)
    placed(exchange, KEYS[:5])
    for name in gone:
        if name in bindings and len(bindings) > 1:
            exchange.unbind(bindings.pop(name))
    names = list(bindings)
    random.shuffle(names)
    fresh = hashing("ring")
    share_out(fresh, {name: weights[name] for name in names})

    assert placed(exchange, KEYS[:100]) == placed(fresh, KEYS[:100])


@both
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 5)), max_size=30))
def test_whatever_comes_and_goes_every_key_has_one_place_and_every_binding_its_share(
    algorithm: str, changes: list[tuple[str, int]]
) -> None:
    exchange = hashing(algorithm)
    bound: dict[str, Binding] = {}
    for name, weight in changes:
        if name in bound:
            exchange.unbind(bound.pop(name))
        else:
            bound[name] = bind(exchange, bare_queue(name), str(weight))

    if not bound:
        assert matches(exchange, "key") == set()
    else:
        assert set(placed(exchange, KEYS[:1_000]).values()) == set(bound)


def test_bindings_that_come_and_go_while_nothing_is_published_leave_no_points() -> None:
    ring = HashRing()
    exchange = hashing("ring")
    steady = bind(exchange, bare_queue("steady"), "1")
    ring.add(steady, b"steady", 1)
    for _ in range(1_000):
        ring.add(guest := Binding(exchange, bare_queue("guest"), "1", {}), b"guest", 1)
        ring.remove(guest)

    assert sum(len(getattr(ring, name)) for name in HashRing.__slots__) < 10 * HASH_RING_POINTS_PER_WEIGHT
    assert ring.find(hashed(b"key")) is steady


def test_after_the_last_point_of_the_ring_comes_the_first() -> None:
    exchange = hashing("ring")
    for number in range(20):
        ring = HashRing()
        for name in ("one", "two"):
            ring.add(Binding(exchange, bare_queue(name), "1", {}), f"{name}{number}".encode(), 1)

        assert ring.find(2**64 - 1) is ring.find(0)


@both
def test_numbers_of_bindings_that_went_are_used_again(algorithm: str) -> None:
    """A point has no room for a number that grows with every binding there ever was."""
    exchange = hashing(algorithm)
    share_out(exchange, {"steady": 1})
    for _ in range(500):
        exchange.unbind(bind(exchange, bare_queue(), "1"))
        placed(exchange, KEYS[:1])

    assert exchange._shares._owners.add(Binding(exchange, bare_queue(), "1", {})) < 5


def test_a_restart_moves_nothing(world: World) -> None:
    for algorithm in ALGORITHMS:
        exchange = declare_exchange(
            world.vhost, algorithm, "x-consistent-hash", arguments={"x-algorithm": algorithm, "x-hash-on": "customer"}
        )
        for number in range(5):
            world.vhost.bind(exchange, declare(world.vhost, f"queue-{number}"), str(number + 1), {})

    def routes(world: World) -> list[set[str]]:
        return [matches(world.vhost.exchange(name), "", {"customer": key}) for name in ALGORITHMS for key in KEYS[:200]]

    before = routes(world)
    after = world.restart()

    assert routes(after) == before
    world.vhosts, world.turn, world.files = after.vhosts, after.turn, after.files


# what is hashed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["x-hash-on", "hash-header"])
def test_a_header_is_hashed_instead_of_the_key_where_that_is_asked_for(argument: str) -> None:
    exchange = hashing(**{argument: "customer"})
    share_out(exchange, {str(number): 1 for number in range(10)})

    def place(key: str, headers: Arguments) -> str:
        (found,) = matches(exchange, key, headers)
        return found

    assert len({place(key, {"customer": "ann"}) for key in KEYS[:50]}) == 1
    assert len({place("same", {"customer": key}) for key in KEYS[:200]}) == 10
    assert len({place(key, {}) for key in KEYS[:50]}) == 1


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, 1.5, True, None, "", "ü", b"\xff", bytearray(b"x"), [1, [2]], {}])
def test_a_header_of_any_type_has_a_place(value: Any) -> None:
    exchange = hashing(**{"x-hash-on": "customer"})
    share_out(exchange, {"one": 1, "two": 1})

    assert len(matches(exchange, "", {"customer": value})) == 1


def test_a_route_may_be_remembered_unless_a_header_decides_it() -> None:
    assert hashing().routes_by_key
    assert not hashing(**{"x-hash-on": "customer"}).routes_by_key
    assert not hashing(**{"hash-property": "message_id"}).routes_by_key


@pytest.mark.parametrize("name", ["correlation_id", "message_id", "timestamp"])
def test_a_property_is_hashed_instead_of_the_key_where_that_is_asked_for(world: World, name: str) -> None:
    client = world.client().open()
    hashing = commands.Exchange.Declare(exchange="shares", exchange_type="x-consistent-hash")
    hashing.arguments = {"hash-property": name}
    client.ask(hashing)
    queues = [client.declare(f"queue-{number}").queue for number in range(5)]
    for queue in queues:
        client.bind("shares", queue, "1")

    for number in range(60):
        value: Any = datetime.fromtimestamp(number % 20, UTC) if name == "timestamp" else f"id-{number % 20}"
        properties = commands.Basic.Properties(**{name: value})
        client.publish("shares", f"key-{number}", b"%d" % (number % 20), properties=properties)

    found = [Counter(client.drain(queue)) for queue in queues]
    assert sum(map(len, found)) == 20
    assert {count for counts in found for count in counts.values()} == {3}
    assert sum(map(bool, found)) > 2


def test_only_the_first_of_several_routing_keys_counts(world: World) -> None:
    exchange = declare_exchange(world.vhost, "shares", "x-consistent-hash")
    for number in range(10):
        world.vhost.bind(exchange, declare(world.vhost, f"queue-{number}"), "1", {})

    queues, _ = world.vhost.route(exchange, "key", dict, KEYS[:50])

    assert queues == world.vhost.route(exchange, "key", dict)[0]


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "The binding key must be an integer: ''"),
        ("many", "The binding key must be an integer: 'many'"),
        ("1.5", "The binding key must be an integer: '1.5'"),
        ("1_000", "The binding key must be an integer: '1_000'"),
        ("١", "The binding key must be an integer"),  # a digit, but not one of ASCII
        ("0", "The binding key must be greater than 0: '0'"),
        ("-3", "The binding key must be greater than 0: '-3'"),
        ("9" * 200, "The binding keys of"),
    ],
)
@both
def test_a_weight_must_be_a_positive_number(algorithm: str, key: str, told: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        hashing(algorithm).check_binding(key, {}, WHERE)

    assert refused.value.text.startswith(told)
    assert WHERE in refused.value.text


@pytest.mark.parametrize(("algorithm", "weight_max"), [("jump", HASH_BUCKETS_MAX), ("ring", HASH_RING_WEIGHT_MAX)])
def test_weights_have_a_limit_together(algorithm: str, weight_max: int) -> None:
    exchange = hashing(algorithm)
    exchange.check_binding(str(weight_max), {}, WHERE)
    first = bind(exchange, bare_queue(), "10")

    with pytest.raises(PreconditionFailed, match="current is '10'"):
        exchange.check_binding(str(weight_max - 9), {}, WHERE)

    exchange.unbind(first)
    exchange.check_binding(str(weight_max), {}, WHERE)


def test_a_binding_that_exists_is_no_weight_more(world: World) -> None:
    exchange = declare_exchange(world.vhost, "shares", "x-consistent-hash", arguments={"x-algorithm": "ring"})
    queue = declare(world.vhost, "jobs")
    weight = str(HASH_RING_WEIGHT_MAX // 2 + 1)
    assert world.vhost.bind(exchange, queue, weight, {})

    assert not world.vhost.bind(exchange, queue, weight, {})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x-algorithm": "dice"}, "invalid value 'dice' for arg 'x-algorithm'"),
        ({"x-algorithm": 1}, "invalid type 'signedint' for arg 'x-algorithm'"),
        ({"x-hash-on": 1.5}, "invalid type 'double' for arg 'x-hash-on'"),
        ({"hash-header": []}, "invalid type 'array' for arg 'hash-header'"),
        ({"hash-property": "app_id"}, "Unsupported property: app_id"),
        ({"hash-property": "message_id", "hash-header": "a"}, "hash-header and hash-property are mutually exclusive"),
        ({"hash-property": "message_id", "x-hash-on": "a"}, "x-hash-on and hash-property are mutually exclusive"),
        ({"alternate-exchange": True}, "invalid type 'bool' for arg 'alternate-exchange'"),
    ],
)
def test_arguments_nobody_can_follow_are_refused_and_named(world: World, arguments: Arguments, told: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        declare_exchange(world.vhost, "shares", "x-consistent-hash", arguments=arguments)

    assert refused.value.text.startswith(told)
    assert WHERE in refused.value.text
    assert world.vhost.find_exchange("shares") is None


# numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "buckets", "bucket"),
    [(1, 1, 0), (42, 57, 43), (0xDEAD10CC, 1, 0), (0xDEAD10CC, 666, 361), (256, 1024, 520)],
)
def test_jump_agrees_with_other_implementations(key: int, buckets: int, bucket: int) -> None:
    assert jump(key, buckets) == bucket


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(1, 5_000), min_size=2, max_size=10).map(sorted))
def test_jump_stays_or_moves_to_a_new_bucket(key: int, counts: Sequence[int]) -> None:
    for fewer, more in pairwise(counts):
        assert jump(key, more) == jump(key, fewer) or fewer <= jump(key, more) < more


def test_hashes_are_the_same_in_every_process() -> None:
    assert hashed(b"key") == 17675689295421930702
    assert list(numbers(b"seed", 10))[:9] == list(numbers(b"seed", 9))
