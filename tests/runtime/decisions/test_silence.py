"""When silence is noted, when a shard is given up, and what does not count."""

from ipc.settings import MainSettings
from runtime.decisions.silence import Finding, Silence, pause

MAIN = MainSettings(shard_silent_seconds=4.0, shard_silent_seconds_max=60.0)


class Watched:
    """A silence that is looked at when it should be."""

    def __init__(self, main: MainSettings = MAIN, *, can_ask: bool = True) -> None:
        self.now = 1000.0
        self.main = main
        self.silence = Silence(self.now)
        self.can_ask = can_ask

    def look(self, *, is_recovering: bool = False, late_seconds: float = 0.0) -> Finding:
        self.now += pause(self.main) + late_seconds
        finding = self.silence.look(self.now, self.main, is_recovering=is_recovering)
        if finding is Finding.ASK and self.can_ask:
            self.silence.asked()
        return finding

    def look_for(self, seconds: float, *, is_recovering: bool = False) -> list[Finding]:
        return [self.look(is_recovering=is_recovering) for _ in range(int(seconds / pause(self.main)))]


def test_a_shard_that_answers_is_asked_again_and_again() -> None:
    watched = Watched()
    for _ in range(100):
        assert watched.look() is Finding.ASK
        assert not watched.silence.heard()


def test_silence_is_told_once_and_so_is_its_end() -> None:
    watched = Watched()
    assert watched.look() is Finding.ASK
    findings = watched.look_for(30)
    assert findings[:2] == [Finding.WAIT, Finding.SILENT]
    assert set(findings[2:]) == {Finding.WAIT}
    assert watched.silence.heard()
    assert not watched.silence.heard()
    assert watched.look() is Finding.ASK


def test_a_shard_is_given_up_only_after_the_long_limit() -> None:
    watched = Watched()
    watched.look()
    assert Finding.LOST not in watched.look_for(58)
    assert watched.look() is Finding.LOST


def test_no_limit_means_never() -> None:
    watched = Watched(MainSettings(shard_silent_seconds=4.0, shard_silent_seconds_max=0.0))
    watched.look()
    assert watched.look_for(100_000).count(Finding.LOST) == 0


def test_one_that_recovers_is_noted_and_never_given_up() -> None:
    watched = Watched()
    watched.look()
    findings = watched.look_for(10_000, is_recovering=True)
    assert findings.count(Finding.SILENT) == 1
    assert Finding.LOST not in findings
    assert Finding.LOST not in watched.look_for(58)
    assert watched.look() is Finding.LOST


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """The supervisor was stopped for an hour, and the answer is waiting to be read."""
    watched = Watched()
    watched.look()
    assert watched.look(late_seconds=3600) is not Finding.LOST
    assert watched.silence.seconds <= 2 * pause(MAIN)


def test_what_could_not_be_asked_is_tried_again_and_the_silence_is_told() -> None:
    watched = Watched(can_ask=False)
    findings = [watched.look() for _ in range(5)]
    assert findings == [Finding.ASK, Finding.ASK, Finding.SILENT, Finding.ASK, Finding.ASK]

    watched.can_ask = True
    assert [watched.look(), watched.look()] == [Finding.ASK, Finding.WAIT]
    assert watched.silence.heard()


def test_one_that_can_never_be_asked_is_given_up_as_well() -> None:
    watched = Watched(can_ask=False)
    watched.look()
    assert Finding.LOST not in watched.look_for(58)
    assert watched.look() is Finding.LOST
