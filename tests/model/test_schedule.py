"""Due times in order, whatever the order they were added in, beside a sorted list."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.messages.commands import Level
from shards.compaction.cascade import cascade
from shards.model.schedule import CHUNK_ENTRIES_MAX, Schedule
from tests.compaction.policies import POLICY


def take(schedule: Schedule, count: int = 1 << 30) -> list[tuple[int, int]]:
    taken: list[tuple[int, int]] = []
    while len(taken) < count and (due := schedule.next_due):
        taken.append((due, schedule.first))
        schedule.drop_first()
    return taken


def filled(dues: list[int]) -> Schedule:
    schedule = Schedule()
    for position, due in enumerate(dues):
        schedule.add(due, position)
    return schedule


def in_order(dues: list[int]) -> list[tuple[int, int]]:
    return sorted((due, position) for position, due in enumerate(dues))


def test_an_empty_one_is_never_due() -> None:
    assert Schedule().next_due == 0
    assert len(Schedule()) == 0


def test_of_those_due_at_one_time_the_first_added_comes_first() -> None:
    dues = [5] * (3 * CHUNK_ENTRIES_MAX)

    assert take(filled(dues)) == in_order(dues)


def test_many_in_any_order_come_in_the_order_of_their_times() -> None:
    for seed in range(3):
        random = Random(seed)
        dues = [random.randrange(1, 5000) for _ in range(20_000)]
        schedule = filled(dues)

        assert len(schedule) == len(dues)
        assert take(schedule) == in_order(dues)
        assert len(schedule) == 0


def test_what_is_overdue_already_comes_next() -> None:
    schedule = filled([100, 200, 300])
    take(schedule, 2)

    schedule.add(50, 7)

    assert take(schedule) == [(50, 7), (300, 2)]


def test_all_can_be_taken_at_once() -> None:
    dues = [number * 7919 % 5000 + 1 for number in range(5000)]
    schedule = filled(dues)
    expected = [position for _due, position in in_order(dues)][10:]
    take(schedule, 10)

    assert list(schedule.take_all()) == expected
    assert schedule.next_due == 0


def test_a_pass_of_compaction_changes_nothing() -> None:
    dues = [number * 7919 % 5000 + 1 for number in range(5000)]
    schedule = filled(dues)
    take(schedule, 1500)

    list(cascade(schedule, Level.CRITICAL, POLICY))

    assert take(schedule) == in_order(dues)[1500:]


steps = st.lists(st.one_of(st.integers(1, 40), st.just(0)), max_size=300)


@given(steps, st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_beside_a_list_whatever_is_added_and_dropped(dues: list[int], times: int) -> None:
    """0 drops; each due time is added `times` 64 times, so that chunks fill, split and go."""
    schedule = Schedule()
    beside: list[tuple[int, int]] = []
    position = 0
    for due in dues:
        for _ in range(64 * times):
            if due:
                schedule.add(due, position)
                beside.append((due, position))
                position += 1
            elif beside:
                beside.sort()
                assert (schedule.next_due, schedule.first) == beside.pop(0)
                schedule.drop_first()
    assert len(schedule) == len(beside)
    assert take(schedule) == sorted(beside)
