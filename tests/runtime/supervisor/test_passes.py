"""The last passes are kept whole, and counters of all of them."""

from ipc.limits import PASSES_REMEMBERED_MAX
from ipc.messages.commands import Level
from ipc.messages.reports import MemoryReading, Reclaimed
from runtime.supervisor.passes import Pass, Passes

MEMORY = MemoryReading(3, 2, 1)
NOW = 2000.0


def report(number: int, shard: int, *, freed: int = 10, longest: float = 0.0, failures: int = 0) -> Reclaimed:
    return Reclaimed(
        shard=shard,
        pass_number=number,
        level=Level.TRIM,
        trigger="test",
        seconds=0.1,
        slice_seconds_longest=longest,
        slice_cpu_seconds_longest=longest,
        steps=1,
        freed_bytes_by_kind={"dict": freed},
        freed_bytes_by_vhost={"/": freed},
        failures=failures,
        before=MEMORY,
        after=MEMORY,
    )


def begin(passes: Passes, number: int, level: Level = Level.TRIM, trigger: str = "test") -> Pass:
    return passes.begin(number, level, trigger, began_at=1000.0 + number)


def test_a_pass_has_the_reports_of_all_processes() -> None:
    passes = Passes()
    done = begin(passes, 1)
    for shard in (-1, 0, 1):
        passes.note(report(1, shard), now=NOW)
    passes.end(done, seconds=0.5, unanswered=())

    (kept,) = passes
    assert [found.shard for found in kept.reports] == [-1, 0, 1]
    assert (kept.number, kept.level, kept.trigger, kept.began_at, kept.seconds) == (1, Level.TRIM, "test", 1001.0, 0.5)


def test_a_late_report_finds_its_pass() -> None:
    passes = Passes()
    passes.end(begin(passes, 1), seconds=60.0, unanswered=(0,))
    begin(passes, 2)

    passes.note(report(1, 0), now=NOW)

    first, second = passes
    assert len(first.reports) == 1
    assert second.reports == []
    assert first.unanswered == (0,)
    assert passes.unanswered == 1


def test_only_the_last_ones_are_kept_and_all_are_counted() -> None:
    passes = Passes()
    for number in range(1, PASSES_REMEMBERED_MAX + 51):
        done = begin(passes, number)
        passes.note(report(number, 0, freed=number), now=NOW)
        passes.end(done, seconds=0.1, unanswered=())

    assert len(passes) == PASSES_REMEMBERED_MAX
    assert next(iter(passes)).number == 51
    assert passes.counts == {("test", Level.TRIM): PASSES_REMEMBERED_MAX + 50}
    assert passes.freed_bytes_by_kind["dict"] == sum(range(PASSES_REMEMBERED_MAX + 51))


def test_counters_tell_triggers_and_levels_apart_and_add_up() -> None:
    passes = Passes()
    begin(passes, 1, Level.TRIM, "cgroup")
    begin(passes, 2, Level.RELEASE, "cgroup")
    begin(passes, 3, Level.RELEASE, "control")
    passes.note(report(1, 0, longest=0.001, failures=2), now=NOW)
    passes.note(report(2, 0, longest=0.003, failures=1), now=NOW)
    passes.note(report(3, 0, longest=0.002), now=NOW)

    assert passes.counts == {("cgroup", Level.TRIM): 1, ("cgroup", Level.RELEASE): 1, ("control", Level.RELEASE): 1}
    assert passes.slice_seconds_longest == 0.003
    assert passes.failures == 3


def test_a_report_of_a_forgotten_pass_is_counted_all_the_same() -> None:
    passes = Passes()

    passes.note(report(7, 0), now=NOW)

    assert len(passes) == 0
    assert passes.freed_bytes_by_kind == {"dict": 10}


def test_what_a_shard_did_by_itself_is_a_pass_of_its_own() -> None:
    passes = Passes()
    begin(passes, 1)

    passes.note(report(0, 3), now=NOW)

    _asked, alone = passes
    assert (alone.trigger, alone.began_at, alone.seconds) == ("test", NOW - 0.1, 0.1)
    assert [found.shard for found in alone.reports] == [3]
    assert passes.counts == {("test", Level.TRIM): 2}
