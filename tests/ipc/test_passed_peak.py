"""A pass that nobody asks for begins when a peak has passed, and not before, nor for nothing."""

from ipc.limits import MIB
from ipc.passed_peak import PassedPeak

IDLE = 60.0


def test_a_peak_has_passed_when_it_is_over_for_long_enough() -> None:
    peak = PassedPeak()

    assert not peak.has_passed(100 * MIB, 0.0, IDLE)
    assert not peak.has_passed(10 * MIB, 59.0, IDLE)
    assert peak.has_passed(10 * MIB, 60.0, IDLE)


def test_a_peak_that_goes_on_has_not_passed() -> None:
    peak = PassedPeak()

    assert not any(peak.has_passed(100 * MIB - second % 2 * MIB, float(second), IDLE) for second in range(1000))


def test_what_was_given_back_is_not_given_back_again() -> None:
    peak = PassedPeak()
    peak.has_passed(100 * MIB, 0.0, IDLE)
    assert peak.has_passed(10 * MIB, 60.0, IDLE)

    peak.forget(10 * MIB, 60.0)

    assert not any(peak.has_passed(10 * MIB, 60.0 + second, IDLE) for second in range(1000))
    assert not peak.has_passed(50 * MIB, 1100.0, IDLE)
    assert peak.has_passed(11 * MIB, 1200.0, IDLE)


def test_a_small_peak_is_not_worth_a_look() -> None:
    peak = PassedPeak()
    peak.has_passed(500 * MIB, 0.0, IDLE)

    assert not peak.has_passed(480 * MIB, 1000.0, IDLE)  # a sixteenth
    assert not PassedPeak().has_passed(MIB, 1000.0, IDLE)


def test_a_load_that_comes_and_goes_keeps_its_peak_while_it_does() -> None:
    peak = PassedPeak()

    assert not any(
        peak.has_passed(100 * MIB if second % 50 == 0 else 10 * MIB, float(second), IDLE) for second in range(1000)
    )
