"""Policies: which of them holds for a name, what two of them say together, and what that leaves of own arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import NotAllowed, PreconditionFailed
from ipc.limits import RULES_APPLIED_PER_STEP
from ipc.messages.rules import Definition, Policy, Rules
from shards.model.policies import CLASSIC, EXCHANGE, QUORUM, Rulebook, effective_terms, merged
from shards.model.queues.terms import PLAIN, REJECT_PUBLISH, Terms, read_terms
from shards.model.vhost import VHost
from tests.model.making import append, declare, declare_exchange, take_all
from tests.protocols.conversation import World


def policy(name: str, pattern: str = ".*", *, apply_to: str = "all", priority: int = 0, **settings: Any) -> Policy:
    """`max_length=5` stands for `{"max-length": 5}`."""
    definition = {key.replace("_", "-"): value for key, value in settings.items()}
    return Policy(name, pattern, definition, apply_to, priority)


def rule(vhost: VHost, *policies: Policy, operators: tuple[Policy, ...] = (), **limits: Any) -> None:
    steps = vhost.change_rules(Rules(policies, operators, **limits), now=0)
    assert all(step is None for step in steps)


def chosen(*policies: Policy, name: str, kind: str = CLASSIC) -> str | None:
    return Rulebook(Rules(policies)).ruling(name, kind).policy


# which one ------------------------------------------------------------------------------------------------------------


def test_a_pattern_matches_anywhere_in_a_name() -> None:
    anywhere, begins = policy("anywhere", "job"), policy("begins", "^job")

    assert chosen(anywhere, name="old jobs") == "anywhere"
    assert chosen(begins, name="old jobs") is None
    assert chosen(begins, name="jobs") == "begins"


def test_of_those_that_match_the_highest_priority_wins_alone() -> None:
    low, high, other = policy("a", max_length=1), policy("b", priority=7), policy("c", "^other", priority=9)

    assert chosen(low, high, other, name="jobs") == "b"
    assert Rulebook(Rules((low, high))).ruling("jobs", CLASSIC).definition == {}


def test_of_equal_priorities_the_first_by_name_wins_whatever_the_order() -> None:
    first, second = policy("a", priority=1), policy("b", priority=1)

    assert chosen(first, second, name="jobs") == chosen(second, first, name="jobs") == "a"


@pytest.mark.parametrize(
    ("apply_to", "kinds"),
    [
        ("all", {CLASSIC, QUORUM, EXCHANGE}),
        ("queues", {CLASSIC, QUORUM}),
        ("classic_queues", {CLASSIC}),
        ("quorum_queues", {QUORUM}),
        ("exchanges", {EXCHANGE}),
        ("streams", set()),
    ],
)
def test_a_policy_applies_to_what_it_names(apply_to: str, kinds: set[str]) -> None:
    ours = policy("p", apply_to=apply_to)

    found = {kind for kind in (CLASSIC, QUORUM, EXCHANGE) if chosen(ours, name="x", kind=kind)}

    assert found == kinds


def test_a_ruling_is_remembered_and_the_same_for_all_it_holds_for() -> None:
    book = Rulebook(Rules((policy("p", max_length=5),)))

    assert book.ruling("one", CLASSIC) is book.ruling("two", CLASSIC)
    assert book.terms("one", PLAIN, None) is book.terms("two", PLAIN, {})


# what two say together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "operators", "together"),
    [
        ({"max-length": 5}, {"max-length": 3}, {"max-length": 3}),
        ({"max-length": 3}, {"max-length": 5}, {"max-length": 3}),
        ({"max-length": 5}, {"message-ttl": 3}, {"max-length": 5, "message-ttl": 3}),
        ({"delivery-limit": -1}, {"delivery-limit": 5}, {"delivery-limit": 5}),
        ({"delivery-limit": -1}, {"delivery-limit": -1}, {"delivery-limit": -1}),
        ({"overflow": "drop-head"}, {}, {"overflow": "drop-head"}),
        ({}, {"expires": 1}, {"expires": 1}),
    ],
)
def test_of_a_policy_and_an_operator_policy_the_lower_number_holds(
    definition: Definition, operators: Definition, together: Definition
) -> None:
    assert merged(definition, operators) == together


def test_both_policies_are_named() -> None:
    book = Rulebook(Rules((policy("mine", max_length=5),), (policy("theirs", max_length=3),)))

    ruling = book.ruling("jobs", CLASSIC)

    assert (ruling.policy, ruling.operator_policy, ruling.definition) == ("mine", "theirs", {"max-length": 3})


# what is left of arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "definition", "terms"),
    [
        ({}, {"max-length": 5}, Terms(length_max=5)),
        ({"x-max-length": 3}, {"max-length": 5}, Terms(length_max=3)),
        ({"x-max-length": 7}, {"max-length": 5}, Terms(length_max=5)),
        ({"x-max-length-bytes": 7}, {"max-length-bytes": 0}, Terms(bytes_max=0)),
        ({"x-message-ttl": 7}, {"message-ttl": 5}, Terms(message_ttl=5)),
        ({"x-expires": 7}, {"expires": 5}, Terms(expires=5)),
        ({"x-delivery-limit": 7}, {"delivery-limit": -1}, Terms(delivery_limit=7)),
        ({"x-consumer-timeout": 7}, {"consumer-timeout": 9}, Terms(consumer_timeout=7)),
        ({}, {"overflow": "reject-publish"}, Terms(overflow=REJECT_PUBLISH)),
        ({"x-overflow": "drop-head"}, {"overflow": "reject-publish"}, Terms()),
        ({"x-dead-letter-exchange": "a"}, {"dead-letter-exchange": "b"}, Terms(dead_letter_exchange="a")),
        ({}, {"dead-letter-routing-key": "k"}, Terms(dead_letter_routing_key="k")),
        (
            {"x-dead-letter-exchange": "a"},
            {"dead-letter-routing-key": "k"},
            Terms(dead_letter_exchange="a", dead_letter_routing_key="k"),
        ),
        ({"x-max-priority": 3}, {"queue-mode": "lazy", "alternate-exchange": "a"}, Terms(priority_max=3)),
    ],
)
def test_lower_numbers_hold_and_texts_are_the_arguments(
    arguments: dict[str, Any], definition: Definition, terms: Terms
) -> None:
    own = read_terms(arguments, "a queue")

    assert effective_terms(own, arguments, definition) == terms


def asking(key: str, number: int | None) -> Definition:
    return {} if number is None else {key: number}


numbers = st.none() | st.integers(1, 2**32 - 1)


@given(
    st.sampled_from(["max-length", "max-length-bytes", "message-ttl", "expires", "delivery-limit"]),
    st.tuples(numbers, numbers, numbers),
)
def test_the_lowest_of_argument_policy_and_operator_policy_holds(
    key: str, three: tuple[int | None, int | None, int | None]
) -> None:
    argument, ours, operators = three
    book = Rulebook(Rules((Policy("p", "", asking(key, ours)),), (Policy("o", "", asking(key, operators)),)))
    arguments = asking(f"x-{key}", argument)

    terms = book.terms("jobs", read_terms(arguments, "a queue"), arguments)

    lowest = min((number for number in three if number is not None), default=None)
    assert terms == read_terms(asking(f"x-{key}", lowest), "a queue")


def test_policies_without_a_word_for_queues_leave_their_terms_as_they_are() -> None:
    own = read_terms({"x-max-length": 5}, "a queue")

    assert effective_terms(own, {"x-max-length": 5}, {"queue-mode": "lazy"}) is own


# what a vhost makes of it ---------------------------------------------------------------------------------------------


def test_rules_hold_for_queues_that_are_there_and_for_those_that_come(world: World) -> None:
    before = declare(world.vhost, "before")

    rule(world.vhost, policy("short", max_length=5))

    assert before.terms.length_max == 5
    assert declare(world.vhost, "after").terms.length_max == 5


def test_without_its_policy_a_queue_has_its_own_terms_again(world: World) -> None:
    plain = declare(world.vhost, "plain")
    asking = declare(world.vhost, "asking", arguments={"x-max-length": 7})
    rule(world.vhost, policy("short", max_length=5))
    assert (plain.terms.length_max, asking.terms.length_max) == (5, 5)

    rule(world.vhost)

    assert plain.terms is PLAIN
    assert asking.terms.length_max == 7


def test_what_is_too_much_under_a_new_policy_goes_at_once(world: World) -> None:
    queue = declare(world.vhost, "jobs")
    append(queue, b"1", b"2", b"3")
    world.finish_turn()

    rule(world.vhost, policy("short", max_length=1))
    world.finish_turn()

    assert take_all(queue) == [b"3"]


def test_a_queue_expires_so_long_after_the_policy_came_and_not_after_its_declaration(world: World) -> None:
    world.finish_turn()
    declare(world.vhost, "jobs")
    world.advance(10_000)

    for _step in world.vhost.change_rules(Rules((policy("brief", expires=1_000),)), world.now):
        pass
    world.finish_turn()
    world.advance(900)
    assert world.vhost.find_queue("jobs") is not None

    world.advance(300)
    assert world.vhost.find_queue("jobs") is None


def test_quorum_queues_are_told_from_classic_ones(world: World) -> None:
    rule(world.vhost, policy("q", apply_to="quorum_queues", max_length=5))

    quorum = declare(world.vhost, "quorum", arguments={"x-queue-type": "quorum"})

    assert quorum.terms.length_max == 5
    assert declare(world.vhost, "classic").terms.length_max is None


def test_an_alternate_exchange_comes_from_the_argument_or_else_from_the_policy(world: World) -> None:
    asking = declare_exchange(world.vhost, "asking", arguments={"alternate-exchange": "own"})
    silent = declare_exchange(world.vhost, "silent")

    rule(world.vhost, policy("lost", alternate_exchange="lost"))

    assert (asking.alternate, silent.alternate) == ("own", "lost")
    assert declare_exchange(world.vhost, "later").alternate == "lost"
    assert world.vhost.exchange("amq.topic").alternate == "lost"
    assert world.vhost.exchange("").alternate is None

    rule(world.vhost)
    assert (asking.alternate, silent.alternate) == ("own", None)


def test_remembered_routes_are_asked_for_again_after_a_change(world: World) -> None:
    before = world.vhost.revision

    rule(world.vhost, policy("short", max_length=5))

    assert world.vhost.revision > before


def test_a_change_goes_in_steps_and_misses_nobody_who_comes_meanwhile(world: World) -> None:
    queues = [declare(world.vhost, f"q{number}") for number in range(2 * RULES_APPLIED_PER_STEP)]
    steps = world.vhost.change_rules(Rules((policy("short", max_length=5),)), now=0)

    next(steps)
    between = declare(world.vhost, "between")
    world.vhost.delete_queue(queues[-1])
    remaining = sum(1 for _ in steps)

    assert remaining >= 1
    assert between.terms.length_max == 5
    assert {queue.terms.length_max for queue in queues[:-1]} == {5}


def test_rules_that_come_with_the_order_to_open_hold_for_what_is_recovered(world: World) -> None:
    declare(world.vhost, "jobs", arguments={"x-max-length": 7})
    declare_exchange(world.vhost, "news")
    world.finish_turn()
    world.vhosts.close("/")

    rules = Rules((policy("p", max_length=5, alternate_exchange="lost"),))
    world.vhost, _report = world.vhosts.open("/", str(world._directory / "default"), rules)

    assert world.vhost.queue("jobs").terms.length_max == 5
    assert world.vhost.exchange("news").alternate == "lost"


# limits ---------------------------------------------------------------------------------------------------------------


def test_no_more_queues_than_the_limit_allows(world: World) -> None:
    rule(world.vhost, queues_max=2)
    first = declare(world.vhost, "first")
    declare(world.vhost, "second")

    with pytest.raises(PreconditionFailed) as refused:
        declare(world.vhost, "third")
    assert refused.value.text == "cannot declare queue 'third': queue limit in vhost '/' (2) is reached"

    assert declare(world.vhost, "first") is first
    world.vhost.delete_queue(first)
    declare(world.vhost, "third")


def test_a_limit_below_what_is_there_keeps_what_is_there(world: World) -> None:
    declare(world.vhost, "first")

    rule(world.vhost, queues_max=0)

    assert world.vhost.find_queue("first") is not None
    with pytest.raises(PreconditionFailed):
        declare(world.vhost, "")


def test_a_client_too_many_is_not_allowed(world: World) -> None:
    assert world.vhost.refusal_to("ann") is None
    world.client()

    rule(world.vhost, connections_max=1)

    refusal = world.vhost.refusal_to("ann")
    assert isinstance(refusal, NotAllowed)
    assert refusal.text == "access to vhost '/' refused for user 'ann': connection limit (1) is reached"
