"""The kernel's pressure files, read as averages."""

from runtime.pressure.averages import SYSTEM_PRESSURE, Pressure, Stall, parse_pressure, pressure_file, read_pressure

TEXT = """some avg10=1.50 avg60=0.25 avg300=0.00 total=352531
full avg10=0.75 avg60=0.00 avg300=0.00 total=343997
"""


def test_both_lines_are_read() -> None:
    assert parse_pressure("file", TEXT) == Pressure(
        "file", Stall(1.5, 0.25, 0.0, 352531), Stall(0.75, 0.0, 0.0, 343997)
    )


def test_a_line_that_is_not_there_is_none() -> None:
    pressure = parse_pressure("file", TEXT.splitlines()[0])

    assert pressure.some is not None
    assert pressure.full is None


def test_what_is_not_watched_in_a_cgroup_is_read_of_the_whole_system() -> None:
    assert all(pressure_file(source) == SYSTEM_PRESSURE for source in ("system", "poll", "none", ""))


def test_a_machine_without_the_file_has_no_averages_and_any_other_has() -> None:
    assert (read_pressure("system") is not None) == SYSTEM_PRESSURE.exists()
