"""The ladder on virtual time: how hard, how often, never a storm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.limits import COOL_DOWN_DOUBLINGS_MAX
from ipc.messages.commands import Level
from ipc.settings import CompactionSettings
from runtime.decisions.ladder import Ladder, Pass, Reading

SETTINGS = CompactionSettings(cool_down_seconds=2.0, escalate_seconds=10.0)
PRESSURE = Reading("cgroup")


class Climb:
    """A ladder with a clock, whose passes take a second."""

    def __init__(self) -> None:
        self.ladder = Ladder()
        self.now = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def observe(self, reading: Reading = PRESSURE) -> None:
        self.ladder.observe(reading, self.now)

    def take(self) -> Pass | None:
        return self.ladder.take(self.now, SETTINGS)

    def level(self) -> Level | None:
        """Run the pass that is due, if one is, to its end."""
        step = self.take()
        if step is None:
            return None
        self.advance(1)
        self.ladder.finished(self.now)
        return step.level

    def wakes_in(self) -> float:
        return self.ladder.wakes_at(SETTINGS) - self.now


@pytest.fixture
def climb() -> Climb:
    return Climb()


def test_without_readings_nothing_happens(climb: Climb) -> None:
    assert climb.take() is None
    assert climb.wakes_in() == float("inf")


def test_the_first_reading_trims_at_once(climb: Climb) -> None:
    climb.observe()

    assert climb.take() == Pass(Level.TRIM, "cgroup")


def test_pressure_that_comes_back_soon_climbs_to_the_top_and_stays(climb: Climb) -> None:
    levels = []
    for _ in range(4):
        climb.observe()
        levels.append(climb.level())
        climb.advance(9)

    assert levels == [Level.TRIM, Level.RELEASE, Level.CRITICAL, Level.CRITICAL]


def test_pressure_that_comes_back_later_keeps_its_rung(climb: Climb) -> None:
    climb.observe()
    climb.level()
    climb.advance(5)
    climb.observe()
    assert climb.level() is Level.RELEASE

    climb.advance(15)
    climb.observe()

    assert climb.level() is Level.RELEASE


@pytest.mark.parametrize(
    ("calm", "level"), [(19, Level.CRITICAL), (20, Level.RELEASE), (30, Level.TRIM), (1e6, Level.TRIM)]
)
def test_calm_brings_it_down_rung_by_rung(climb: Climb, calm: float, level: Level) -> None:
    for _ in range(3):
        climb.observe()
        climb.level()
        climb.advance(9)
    climb.advance(calm - 9)

    climb.observe()

    assert climb.level() is level


def test_only_one_pass_runs_at_a_time(climb: Climb) -> None:
    climb.observe()
    climb.take()

    climb.observe(Reading("cgroup", Level.CRITICAL))

    assert climb.take() is None
    assert climb.wakes_in() == float("inf")


def test_readings_during_a_pass_are_dropped_unless_they_ask_for_more(climb: Climb) -> None:
    climb.observe(Reading("cgroup", Level.RELEASE))
    climb.take()
    climb.observe()
    climb.observe(Reading("cgroup", Level.RELEASE))
    climb.ladder.finished(climb.now)
    assert climb.wakes_in() == float("inf")

    climb.advance(60)
    climb.observe()
    climb.take()
    climb.observe(Reading("poll", Level.CRITICAL))
    climb.ladder.finished(climb.now)
    climb.advance(2)

    assert climb.take() == Pass(Level.CRITICAL, "poll")


def test_readings_within_the_cool_down_wait_for_its_end_as_one(climb: Climb) -> None:
    climb.observe()
    climb.level()
    climb.advance(0.5)
    for _ in range(50):
        climb.observe()
    assert climb.take() is None
    assert climb.wakes_in() == 1.5

    climb.advance(1.5)

    assert climb.level() is Level.RELEASE
    climb.advance(100)
    assert climb.take() is None


def test_the_worst_of_merged_readings_decides(climb: Climb) -> None:
    climb.observe()
    climb.observe(Reading("system", Level.RELEASE))
    climb.observe(Reading("watermark"))

    assert climb.take() == Pass(Level.RELEASE, "system")


def test_a_floor_is_reached_at_once_but_does_not_raise_the_rung(climb: Climb) -> None:
    climb.observe(Reading("cgroup", Level.CRITICAL))
    assert climb.level() is Level.CRITICAL

    climb.advance(5)
    climb.observe()

    assert climb.level() is Level.RELEASE


def test_a_ceiling_is_never_passed(climb: Climb) -> None:
    levels = []
    for _ in range(4):
        climb.observe(Reading("watermark", ceiling=Level.RELEASE))
        levels.append(climb.level())
        climb.advance(9)

    assert levels == [Level.TRIM, Level.RELEASE, Level.RELEASE, Level.RELEASE]


def test_passes_in_vain_become_rarer_up_to_a_bound(climb: Climb) -> None:
    waits = []
    for _ in range(10):
        climb.observe()
        waits.append(max(0.0, climb.wakes_in()))
        climb.advance(waits[-1])
        climb.level()

    assert waits == [0, 2, 2, 2, 4, 8, 16, 32, 32, 32]
    assert waits[-1] == SETTINGS.cool_down_seconds * 2**COOL_DOWN_DOUBLINGS_MAX


def test_worse_news_does_not_wait_for_passes_in_vain(climb: Climb) -> None:
    for _ in range(6):
        climb.observe(Reading("poll", ceiling=Level.TRIM))
        climb.advance(max(0.0, climb.wakes_in()))
        climb.level()

    climb.observe(Reading("poll", Level.RELEASE))

    assert climb.wakes_in() == 2.0


def test_passes_that_helped_are_not_in_vain_however_soon_more_are_needed(climb: Climb) -> None:
    waits = []
    for _ in range(8):
        climb.observe(Reading("memory alarm", Level.CRITICAL, is_new=True))
        climb.observe(Reading("memory alarm", Level.CRITICAL))
        waits.append(max(0.0, climb.wakes_in()))
        climb.advance(waits[-1])
        assert climb.level() is Level.CRITICAL

    assert waits == [0, *[SETTINGS.cool_down_seconds] * 7]


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from(Level), st.sampled_from(Level), st.booleans()),
        max_size=60,
    )
)
def test_passes_never_overlap_and_never_follow_each_other_faster_than_the_cool_down(
    events: list[tuple[float, Level, Level, bool]],
) -> None:
    ladder, now = Ladder(), 0.0
    running, ended = False, float("-inf")
    for seconds, floor, ceiling, finish in events:
        now += seconds
        if running and finish:
            ladder.finished(now)
            running, ended = False, now
        ladder.observe(Reading("any", floor, max(floor, ceiling)), now)
        step = ladder.take(now, SETTINGS)
        if step is not None:
            assert not running
            assert now - ended >= SETTINGS.cool_down_seconds
            running = True


# what it says of itself -----------------------------------------------------------------------------------------------


def test_the_level_is_that_of_the_pass_under_way_and_sinks_with_calm() -> None:
    climb = Climb()

    def shown() -> Level | None:
        return climb.ladder.level(climb.now, SETTINGS.escalate_seconds)

    assert shown() is None
    climb.observe(Reading("cgroup", floor=Level.RELEASE))
    assert shown() is None
    assert climb.take() is not None
    assert shown() is Level.RELEASE
    climb.advance(1)
    climb.ladder.finished(climb.now)
    levels = []
    for _ in range(5):
        levels.append(shown())
        climb.advance(SETTINGS.escalate_seconds)

    assert levels == [Level.RELEASE, Level.RELEASE, Level.TRIM, None, None]


def test_without_escalation_calm_comes_with_the_end_of_a_pass() -> None:
    climb = Climb()
    climb.observe()
    climb.level()

    assert climb.ladder.level(climb.now, 0.0) is None
