"""Questions to all shards: whoever answers is heard, whoever does not is named, and nobody is buried in questions."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from ipc.limits import QUESTIONS_OWED_MAX
from ipc.link import Link, link_pair
from ipc.messages.commands import AskStatus, ShardCommand
from ipc.messages.reports import ShardReport, ShardStatus, Unanswered
from runtime.supervisor.inquiries import Gathered, Inquiries


class Fleet:
    """Links to shards that the test plays."""

    def __init__(self, shards: int) -> None:
        pairs = [link_pair() for _ in range(shards)]
        self.ours: dict[int, Link[Any]] = {shard: Link(pair[0], ShardReport) for shard, pair in enumerate(pairs)}
        self.theirs: list[Link[Any]] = [Link(pair[1], ShardCommand) for pair in pairs]
        self.inquiries = Inquiries(lambda: list(self.ours.items()), shards)

    async def question(self, shard: int) -> AskStatus:
        asked, _none = await self.theirs[shard].receive()
        assert isinstance(asked, AskStatus)
        return asked

    async def answer(self, shard: int) -> None:
        self.inquiries.heard(status((await self.question(shard)).number, shard))

    def close(self) -> None:
        for link in (*self.ours.values(), *self.theirs):
            link.close()


def status(number: int, shard: int, *, is_last: bool = True) -> ShardStatus:
    return ShardStatus(number, shard, is_last=is_last, vhosts=1, queues=2, connections=3, seconds=4.0)


@pytest.fixture
async def make() -> Any:
    made: list[Fleet] = []

    def prepare(shards: int) -> Fleet:
        made.append(Fleet(shards))
        return made[-1]

    yield prepare
    for fleet in made:
        fleet.close()


Make = Callable[[int], Fleet]


async def ask(fleet: Fleet, *actions: Any, seconds: float = 5.0) -> Gathered:
    """The answer, while shards do these things."""
    async with trio.open_nursery() as nursery:
        for action in actions:
            nursery.start_soon(action)
        gathered = await fleet.inquiries.ask(AskStatus, seconds=seconds)
        nursery.cancel_scope.cancel()
    return gathered


async def test_all_shards_are_heard(make: Make) -> None:
    fleet = make(2)

    gathered = await ask(fleet, lambda: fleet.answer(0), lambda: fleet.answer(1))

    assert sorted(answer.shard for answer in gathered.answers) == [0, 1]
    assert gathered.silent == {}


async def test_one_of_several_can_be_asked_alone(make: Make) -> None:
    fleet = make(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.answer, 1)

        gathered = await fleet.inquiries.ask(AskStatus, among=(1,))

    assert [answer.shard for answer in gathered.answers] == [1]
    assert gathered.silent == {}
    with trio.move_on_after(0.0) as nothing_came:
        await fleet.question(0)
    assert nothing_came.cancelled_caught


async def test_an_answer_of_many_pages_is_waited_for_to_its_end(make: Make) -> None:
    fleet = make(1)

    async def pages() -> None:
        number = (await fleet.question(0)).number
        for page in range(3):
            fleet.inquiries.heard(status(number, 0, is_last=page == 2))
            await trio.sleep(0)

    gathered = await ask(fleet, pages)

    assert [answer.is_last for answer in gathered.answers] == [False, False, True]


async def test_who_does_not_answer_in_time_is_named_and_the_others_are_heard(
    make: Make, autojump_clock: trio.testing.MockClock
) -> None:
    fleet = make(2)

    gathered = await ask(fleet, lambda: fleet.answer(1), seconds=3.0)

    assert [answer.shard for answer in gathered.answers] == [1]
    assert gathered.silent == {0: "it did not answer within 3 seconds"}


async def test_who_dies_is_not_waited_for(make: Make) -> None:
    fleet = make(1)

    async def die() -> None:
        await fleet.question(0)
        fleet.inquiries.lost(0)

    assert (await ask(fleet, die)).silent == {0: "it ended before it had answered"}


async def test_who_is_not_there_is_named_at_once(make: Make) -> None:
    fleet = make(2)
    fleet.ours.pop(0).close()
    fleet.theirs[1].close()

    assert (await ask(fleet)).silent == {0: "it is not running", 1: "it is not running"}


async def test_a_defect_in_a_shard_is_told(make: Make) -> None:
    fleet = make(1)

    async def fail() -> None:
        number = (await fleet.question(0)).number
        fleet.inquiries.heard(Unanswered(number, 0, is_last=True, reason="KeyError"))

    gathered = await ask(fleet, fail)

    assert gathered.answers == []
    assert gathered.silent == {0: "it has a defect: KeyError"}


async def test_a_late_answer_goes_to_nobody(make: Make, autojump_clock: trio.testing.MockClock) -> None:
    fleet = make(1)
    await ask(fleet, seconds=1.0)
    late = (await fleet.question(0)).number

    async def answer_both() -> None:
        fleet.inquiries.heard(status(late, 0))
        await fleet.answer(0)

    gathered = await ask(fleet, answer_both)

    assert [answer.number for answer in gathered.answers] == [late + 1]


async def test_a_shard_that_owes_many_answers_is_not_asked_until_it_has_caught_up(
    make: Make, autojump_clock: trio.testing.MockClock
) -> None:
    fleet = make(1)
    owed = []

    async def hear_only() -> None:
        while True:
            owed.append((await fleet.question(0)).number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear_only)
        for _ in range(QUESTIONS_OWED_MAX):
            await fleet.inquiries.ask(AskStatus, seconds=1.0)
        refused = await fleet.inquiries.ask(AskStatus, seconds=1.0)
        nursery.cancel_scope.cancel()
    assert refused.silent == {0: f"it owes {QUESTIONS_OWED_MAX} answers already"}
    assert len(owed) == QUESTIONS_OWED_MAX

    for number in owed:
        fleet.inquiries.heard(status(number, 0))

    assert (await ask(fleet, lambda: fleet.answer(0))).silent == {}


async def test_a_shard_that_was_started_again_owes_nothing(make: Make, autojump_clock: trio.testing.MockClock) -> None:
    fleet = make(1)
    for _ in range(3):
        await ask(fleet, seconds=1.0)
        await fleet.question(0)

    fleet.inquiries.lost(0)

    assert (await ask(fleet, lambda: fleet.answer(0))).silent == {}


async def test_questions_that_cross_do_not_mix(make: Make) -> None:
    fleet = make(1)
    found: list[Gathered] = []

    async def ask_one() -> None:
        found.append(await fleet.inquiries.ask(AskStatus))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask_one)
        numbers = [(await fleet.question(0)).number for _ in range(5)]
        for number in reversed(numbers):
            fleet.inquiries.heard(status(number, 0))

    assert sorted(one.answers[0].number for one in found) == sorted(numbers)
    assert all(len(one.answers) == 1 for one in found)
