"""A vhost as a whole: what goes along with what, what comes back after a restart, and what must not."""

from pathlib import Path

import pytest

from ipc.errors import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from shards.model.bindings import Binding
from shards.model.exchanges.exchange import Exchange
from shards.model.queues.queue import Queue
from shards.model.vhost import VHost
from shards.store.definitions import DropExchange, DropQueue
from tests.model.making import Eater, append, declare, declare_exchange, matches, take_all
from tests.protocols.conversation import World


class Connected:
    """Stands where a connection would: somebody to whom exclusive queues belong."""

    def __init__(self) -> None:
        self.exclusive_queues: dict[str, None] = {}


@pytest.fixture
def vhost(world: World) -> VHost:
    return world.vhost


def restart(world: World) -> VHost:
    world.finish_turn()
    after = world.restart()
    world.vhosts, world.turn, world.files, world.vhost = after.vhosts, after.turn, after.files, after.vhost
    return after.vhost


def targets(vhost: VHost, exchange: str, key: str = "") -> set[str]:
    return {queue.name for queue in vhost.route(vhost.exchange(exchange), key, dict)[0]}


# look-ups -------------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found(vhost: VHost) -> None:
    with pytest.raises(NotFound, match="no queue 'jobs' in vhost '/'"):
        vhost.queue("jobs")
    with pytest.raises(NotFound, match="no exchange 'news' in vhost '/'"):
        vhost.exchange("news")
    assert vhost.find_queue("jobs") is None
    assert vhost.find_exchange("news") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "direct"),
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)
def test_every_vhost_has_the_predeclared_exchanges_and_keeps_them(vhost: VHost, name: str, kind: str) -> None:
    assert vhost.exchange(name).type == kind
    assert vhost.exchange(name).is_durable
    with pytest.raises(AccessRefused):
        vhost.delete_exchange(name)


def test_an_exclusive_queue_is_locked_for_others(vhost: VHost) -> None:
    mine, yours = Connected(), Connected()
    queue = declare(vhost, "jobs", is_exclusive=True, owner=mine)

    assert vhost.queue("jobs", mine) is queue
    for stranger in (yours, None):
        with pytest.raises(ResourceLocked):
            vhost.queue("jobs", stranger)
    with pytest.raises(ResourceLocked):
        declare(vhost, "jobs", owner=yours)


def test_the_broker_names_queues_that_have_no_name(vhost: VHost) -> None:
    one, two = declare(vhost, ""), declare(vhost, "")

    assert one.name != two.name
    assert one.name.startswith("amq.gen-")
    assert vhost.queue(one.name) is one


# what goes along ------------------------------------------------------------------------------------------------------


def test_a_deleted_queue_takes_its_bindings_along(vhost: VHost) -> None:
    queue, other = declare(vhost, "jobs"), declare(vhost, "other")
    for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers"):
        vhost.bind(vhost.exchange(name), queue, "key", {})
        vhost.bind(vhost.exchange(name), other, "key", {})

    vhost.delete_queue(queue)

    for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers"):
        assert [binding.destination for binding in vhost.exchange(name).bindings()] == [other]


def test_deleting_a_queue_does_not_scan_exchanges(vhost: VHost, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = declare(vhost, "jobs")
    vhost.bind(vhost.exchange("amq.topic"), queue, "a.#", {})
    for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers"):
        for number in range(50):
            vhost.bind(vhost.exchange(name), declare(vhost, f"other-{number}"), "key", {})

    def scan(_exchange: Exchange) -> list[Binding]:
        raise AssertionError("a scan")

    monkeypatch.setattr(Exchange, "bindings", scan)
    vhost.delete_queue(queue)

    assert targets(vhost, "amq.topic", "a.b") == set()


def test_a_deleted_exchange_takes_its_bindings_along(vhost: VHost) -> None:
    source, middle, queue = declare_exchange(vhost, "source"), declare_exchange(vhost, "middle"), declare(vhost, "jobs")
    vhost.bind(source, middle, "", {})
    vhost.bind(middle, queue, "", {})
    assert targets(vhost, "source") == {"jobs"}

    vhost.delete_exchange("middle")

    assert targets(vhost, "source") == set()
    assert not source.is_bound
    assert queue.inbound() == []


def test_an_auto_delete_exchange_goes_with_its_last_binding(vhost: VHost) -> None:
    exchange = declare_exchange(vhost, "news", is_auto_delete=True)
    one, two = declare(vhost, "one"), declare(vhost, "two")
    vhost.bind(exchange, one, "", {})
    vhost.bind(exchange, two, "", {})

    vhost.unbind(exchange, one, "", {})
    assert vhost.find_exchange("news") is exchange

    vhost.delete_queue(two)
    assert vhost.find_exchange("news") is None


def test_auto_delete_exchanges_go_in_a_chain(vhost: VHost) -> None:
    first = declare_exchange(vhost, "first", is_auto_delete=True)
    second = declare_exchange(vhost, "second", is_auto_delete=True)
    queue = declare(vhost, "jobs")
    vhost.bind(first, second, "", {})
    vhost.bind(second, queue, "", {})
    vhost.bind(first, queue, "", {})

    vhost.delete_queue(queue)

    assert vhost.find_exchange("second") is None
    assert vhost.find_exchange("first") is None


def test_auto_delete_exchanges_bound_in_a_loop_are_deleted_once(vhost: VHost) -> None:
    one, two = (declare_exchange(vhost, name, is_auto_delete=True) for name in ("one", "two"))
    vhost.bind(one, two, "", {})
    vhost.bind(two, one, "", {})
    vhost.bind(one, one, "", {})
    vhost.take_changes()

    vhost.delete_exchange("one")

    assert vhost.find_exchange("one") is None
    assert vhost.find_exchange("two") is None
    assert vhost.take_changes() == [DropExchange("one"), DropExchange("two")]


def test_an_exchange_in_use_is_not_deleted_if_unused_is_asked(vhost: VHost) -> None:
    exchange, queue = declare_exchange(vhost, "news"), declare(vhost, "jobs")
    vhost.bind(exchange, queue, "", {})

    with pytest.raises(PreconditionFailed):
        vhost.delete_exchange("news", if_unused=True)

    vhost.unbind(exchange, queue, "", {})
    vhost.delete_exchange("news", if_unused=True)
    assert vhost.find_exchange("news") is None


def test_a_queue_in_use_or_not_empty_is_not_deleted_if_that_is_asked(vhost: VHost) -> None:
    queue = declare(vhost, "jobs")
    eater = Eater(queue, appetite=0)
    queue.add_consumer(eater)
    append(queue, b"dig")

    with pytest.raises(PreconditionFailed):
        vhost.delete_queue(queue, if_unused=True)
    with pytest.raises(PreconditionFailed):
        vhost.delete_queue(queue, if_empty=True)

    assert vhost.delete_queue(queue) == 1


def test_an_owner_forgets_its_queue_however_that_goes(vhost: VHost) -> None:
    owner = Connected()
    queue = declare(vhost, "jobs", is_exclusive=True, owner=owner, is_auto_delete=True)
    owner.exclusive_queues["jobs"] = None
    eater = Eater(queue)
    queue.add_consumer(eater)

    vhost.remove_consumer(eater)

    assert owner.exclusive_queues == {}


def test_unbinding_what_is_not_bound_is_fine(vhost: VHost) -> None:
    exchange, queue = declare_exchange(vhost, "news"), declare(vhost, "jobs")

    vhost.unbind(exchange, queue, "nowhere", {})

    assert not exchange.is_bound


# routing --------------------------------------------------------------------------------------------------------------


def test_exchanges_bound_in_a_loop_deliver_once(vhost: VHost) -> None:
    one, two, queue = declare_exchange(vhost, "one"), declare_exchange(vhost, "two"), declare(vhost, "jobs")
    vhost.bind(one, two, "", {})
    vhost.bind(two, one, "", {})
    vhost.bind(one, one, "", {})
    vhost.bind(one, queue, "a", {})
    vhost.bind(two, queue, "b", {})

    queues, by_key = vhost.route(one, "", dict)

    assert queues == [queue]
    assert by_key


def test_a_headers_exchange_on_the_way_makes_a_route_unfit_to_remember(vhost: VHost) -> None:
    queue = declare(vhost, "jobs")
    vhost.bind(vhost.exchange("amq.fanout"), vhost.exchange("amq.headers"), "", {})
    vhost.bind(vhost.exchange("amq.headers"), queue, "", {"kind": "digging"})

    assert vhost.route(vhost.exchange("amq.fanout"), "", lambda: {"kind": "digging"}) == ([queue], False)
    assert vhost.route(vhost.exchange("amq.fanout"), "", dict) == ([], False)


def test_every_change_of_the_topology_is_a_new_revision(vhost: VHost) -> None:
    revisions = [vhost.revision]
    queue = declare(vhost, "jobs")
    revisions.append(vhost.revision)
    exchange = declare_exchange(vhost, "news")
    revisions.append(vhost.revision)
    vhost.bind(exchange, queue, "", {})
    revisions.append(vhost.revision)
    vhost.unbind(exchange, queue, "", {})
    revisions.append(vhost.revision)
    vhost.delete_queue(queue)
    revisions.append(vhost.revision)
    vhost.delete_exchange("news")
    revisions.append(vhost.revision)

    assert revisions == sorted(set(revisions))


# what outlives a restart ----------------------------------------------------------------------------------------------


def test_durable_things_come_back_as_they_were(world: World) -> None:
    vhost = world.vhost
    declare(vhost, "jobs", is_auto_delete=True, arguments={"x-max-length": 5})
    news = declare_exchange(vhost, "news", "topic", is_internal=True, arguments={"a": [1, "b", None, True]})
    vhost.bind(news, vhost.queue("jobs"), "a.#", {"x": 1})
    vhost.bind(vhost.exchange("amq.fanout"), news, "", {})

    vhost = restart(world)

    queue, news = vhost.queue("jobs"), vhost.exchange("news")
    assert (queue.is_durable, queue.is_auto_delete, queue.arguments) == (True, True, {"x-max-length": 5})
    assert (news.type, news.is_durable, news.is_internal) == ("topic", True, True)
    assert news.arguments == {"a": [1, "b", None, True]}
    assert targets(vhost, "amq.fanout", "a.b") == {"jobs"}
    vhost.unbind(news, queue, "a.#", {"x": 1})
    assert targets(vhost, "amq.fanout", "a.b") == set()


def test_messages_of_a_durable_queue_come_back_in_order(world: World) -> None:
    queue = declare(world.vhost, "jobs")
    append(queue, b"one", b"two", b"three", b"four")
    eater = Eater(queue, appetite=3)
    queue.add_consumer(eater)
    queue.deliver(0)
    queue.requeue(eater.positions[:2])
    assert queue.store is not None
    queue.store.settle(eater.positions[2])
    queue.remove_consumer(eater)

    vhost = restart(world)

    assert take_all(vhost.queue("jobs")) == [b"one", b"two", b"four"]


def test_unacknowledged_messages_come_back(world: World) -> None:
    queue = declare(world.vhost, "jobs")
    append(queue, b"one", b"two")
    eater = Eater(queue)
    queue.add_consumer(eater)
    queue.deliver(0)

    assert take_all(restart(world).queue("jobs")) == [b"one", b"two"]


@pytest.mark.parametrize("facts", [{"is_durable": False}, {"is_exclusive": True, "owner": Connected()}])
def test_transient_and_exclusive_queues_vanish_with_their_messages_and_bindings(
    world: World, facts: dict[str, object]
) -> None:
    queue = declare(world.vhost, "jobs", **facts)
    world.vhost.bind(world.vhost.exchange("amq.fanout"), queue, "", {})
    append(queue, b"x" * 100_000)
    queue.flush(0)

    vhost = restart(world)

    assert vhost.find_queue("jobs") is None
    assert not vhost.exchange("amq.fanout").is_bound
    assert take_all(declare(vhost, "jobs")) == []


def test_transient_exchanges_vanish_with_their_bindings(world: World) -> None:
    news = declare_exchange(world.vhost, "news", is_durable=False)
    world.vhost.bind(news, declare(world.vhost, "jobs"), "", {})
    world.vhost.bind(world.vhost.exchange("amq.fanout"), news, "", {})

    vhost = restart(world)

    assert vhost.find_exchange("news") is None
    assert vhost.queue("jobs").inbound() == []
    assert not vhost.exchange("amq.fanout").is_bound


def test_what_was_deleted_stays_deleted(world: World) -> None:
    vhost = world.vhost
    queue, news = declare(vhost, "jobs"), declare_exchange(vhost, "news")
    vhost.bind(news, queue, "", {})
    append(queue, b"dig")
    vhost = restart(world)

    vhost.delete_queue(vhost.queue("jobs"))
    vhost.delete_exchange("news")
    vhost = restart(world)

    assert vhost.find_queue("jobs") is None
    assert vhost.find_exchange("news") is None
    assert take_all(declare(vhost, "jobs")) == []


def test_a_queue_declared_after_a_restart_does_not_inherit_anothers_files(world: World) -> None:
    append(declare(world.vhost, "old"), b"old")
    vhost = restart(world)

    append(declare(vhost, "new"), b"new")
    vhost = restart(world)

    assert take_all(vhost.queue("old")) == [b"old"]
    assert take_all(vhost.queue("new")) == [b"new"]


def test_files_of_a_queue_whose_declaration_was_never_committed_are_removed(world: World, tmp_path: Path) -> None:
    queue = declare(world.vhost, "jobs")
    append(queue, b"dig")
    queue.flush(0)
    world.vhost.take_changes()

    vhost = world.crash().vhost

    assert vhost.find_queue("jobs") is None
    assert list((tmp_path / "default" / "queues").iterdir()) == []


def test_a_deletion_nobody_asked_for_reaches_the_disk_too(world: World) -> None:
    """A queue that goes with its last consumer, whose connection was lost, must not come back."""
    queue = declare(world.vhost, "jobs", is_auto_delete=True)
    eater = Eater(queue)
    queue.add_consumer(eater)
    world.finish_turn()
    assert not world.vhost.changes

    world.vhost.remove_consumer(eater)

    assert world.vhost.changes == [DropQueue("jobs")]
    assert world.turn.round_wanted


def test_transient_things_cost_no_round(world: World) -> None:
    queue: Queue = declare(world.vhost, "jobs", is_durable=False)
    news = declare_exchange(world.vhost, "news", is_durable=False)
    world.vhost.bind(news, queue, "", {})
    world.vhost.bind(world.vhost.exchange("amq.fanout"), queue, "", {})
    world.vhost.bind(news, declare(world.vhost, "other", is_durable=False), "", {})
    world.vhost.delete_exchange("news")

    assert world.vhost.changes == []
    assert not world.turn.round_wanted


def test_a_default_route_is_that_of_the_named_queue(vhost: VHost) -> None:
    declare(vhost, "jobs")

    assert matches(vhost.exchange(""), "jobs") == targets(vhost, "", "jobs") == {"jobs"}
