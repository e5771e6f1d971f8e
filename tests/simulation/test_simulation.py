"""Seeds that have failed once, and some that never have; `make simulate` goes on with fresh ones."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pamqp import commands

from tests.simulation.__main__ import judge
from tests.simulation.delays import LATER, Delayed
from tests.simulation.exercised import Exercised, Tally
from tests.simulation.expectations import Copy, End, Expected, Remembered, Terms, Violation
from tests.simulation.random_client import Mode, RandomClient
from tests.simulation.run import Run, Step, carry_out, steps_of
from tests.simulation.simulated_shard import body_of
from tests.simulation.small_limits import small_limits

SEEDS = sorted(Path(__file__).with_name("seeds").glob("*.json"))


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_seed_that_failed_does_so_no_more(path: Path) -> None:
    kept = json.loads(path.read_text())
    with small_limits():
        carry_out(kept["seed"], [Step(*step) for step in kept["steps"]])


@pytest.mark.parametrize("seed", range(60))
def test_nothing_confirmed_is_lost_whatever_happens(seed: int) -> None:
    with small_limits():
        run = carry_out(seed, steps_of(seed))

    assert run.operations > 200


def test_a_run_is_the_same_each_time() -> None:
    with small_limits():
        runs = [carry_out(7, steps_of(7)) for _ in range(2)]

    assert runs[0].operations == runs[1].operations
    assert runs[0].shard.simulated.calls == runs[1].shard.simulated.calls


def test_every_fault_is_met() -> None:
    """Else a simulation without violations says nothing."""
    tally = Tally()
    for seed in range(60, 80):
        verdict = judge(seed)
        assert not verdict.failure
        tally += verdict.exercised

    assert [kind for kind in Exercised if not tally[kind]] == []


@pytest.fixture
def fresh() -> Iterator[Run]:
    run = Run(1)
    yield run
    run.close()


def test_memory_that_is_not_given_back_is_told(fresh: Run) -> None:
    fresh.shard.client().open().declare("left")

    with pytest.raises(Violation, match="owners of memory"):
        fresh._check_memory()


def test_a_consumer_that_is_given_too_much_is_told(fresh: Run) -> None:
    client = RandomClient(fresh.shard, fresh.shard.vhost, Mode.PLAIN)
    client.wire.declare("q")
    queue = Expected("q", Terms(is_durable=False), 1)
    for number in (1, 2):
        queue.publish(Copy(number))
        client.wire.publish("", "q", body_of(number, 0))
    client.prefetch = 1  # of which the broker knows nothing
    client.consume(queue, "tag", acks=True)

    with pytest.raises(Violation, match="2 held by a consumer that asked for 1"):
        client.hear()


@pytest.fixture
def queue() -> Expected:
    queue = Expected("q", Terms(), 1)
    for number in (1, 2, 3):
        queue.publish(Copy(number, is_persistent=True))
    queue.turn_written(synced=True)
    return queue


def test_a_lost_message_is_told(queue: Expected) -> None:
    with pytest.raises(Violation, match="2 is lost"):
        queue.recovered([[1, 3]], End.KILLED, 0, set())


def test_messages_out_of_order_are_told(queue: Expected) -> None:
    with pytest.raises(Violation, match="out of order"):
        queue.recovered([[1, 3, 2]], End.KILLED, 0, set())


def test_a_message_from_nowhere_is_told(queue: Expected) -> None:
    with pytest.raises(Violation, match="from nowhere"):
        queue.recovered([[1, 2, 3, 4]], End.POWER, 0, set())


def test_a_settled_message_that_is_back_is_told(queue: Expected) -> None:
    queue.leave(2)
    queue.turn_written(synced=True)

    with pytest.raises(Violation, match="settled, and back"):
        queue.recovered([[1, 2, 3]], End.KILLED, 0, set())


def test_what_nobody_was_promised_may_go_with_the_machine(queue: Expected) -> None:
    queue.recovered([[1]], End.POWER, 0, set())

    assert list(queue.present) == [1]


# messages that wait ---------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(fresh: Run) -> Run:
    """One message is confirmed, and due in a second."""
    client = fresh.shard.client().open()
    client.ask(commands.Confirm.Select())
    properties = commands.Basic.Properties(delivery_mode=2, headers={"x-delay": 1000})
    client.publish(LATER, "", body_of(1, 0), properties=properties)
    assert isinstance(client.replies()[0], commands.Basic.Ack)
    message = Delayed(1, is_persistent=True, is_confirmed=True, due=fresh.shard.now + 1000)
    fresh.delays["/"].publish(message)
    fresh.delays["/"].turn_written()
    return fresh


def test_a_message_that_waits_where_none_must_is_told(waiting: Run) -> None:
    waiting.delays["/"].forget()

    with pytest.raises(Violation, match="1 messages wait where 0 must"):
        waiting.delays["/"].account_for(waiting.shard.vhost, waiting.shard.now)


def test_a_message_that_goes_on_too_early_is_told(waiting: Run) -> None:
    waiting.shard.advance(2000)

    with pytest.raises(Violation, match="is due at"):
        waiting.delays["/"].account_for(waiting.shard.vhost, waiting.shard.now - 1500)


def test_a_delayed_message_that_is_lost_is_told(waiting: Run) -> None:
    waiting.shard.vhost.exchange(LATER).waiting_room.purge()  # type: ignore[union-attr]

    with pytest.raises(Violation, match="1 is lost after power"):
        waiting.delays["/"].recovered(waiting.shard.vhost, End.POWER, waiting.shard.now)


def test_a_delayed_message_may_be_in_both_places_after_a_sudden_end(waiting: Run) -> None:
    waiting.shard.advance(2000)
    waiting.delays["/"].account_for(waiting.shard.vhost, waiting.shard.now)

    waiting.delays["/"].recovered(waiting.shard.vhost, End.KILLED, waiting.shard.now)
    waiting.delays["/"].all_are_due(waiting.shard.vhost, waiting.shard.now)


def test_what_a_queue_remembers_is_as_much_as_it_was_asked_to() -> None:
    remembered = Remembered()

    assert [remembered.take(key, 2) for key in "xyxzx"] == [True, True, False, True, True]
