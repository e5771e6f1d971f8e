"""What became of a test is read from lines, of which the last may be missing and some are not ours."""

from tests.conformance.verdicts import Outcome, Verdict, read_mocha, read_pytest


def test_a_test_that_passed_and_was_torn_down_badly_failed() -> None:
    lines = [
        '{"test": "t.py::a", "outcome": "passed", "message": ""}',
        '{"test": "t.py::a", "outcome": "failed", "message": "leak"}',
        '{"test": "t.py::b", "outcome": "passed", "message": ""}',
    ]

    assert read_pytest(lines) == [
        Verdict("t.py::a", Outcome.FAILED, "leak"),
        Verdict("t.py::b", Outcome.PASSED),
    ]


def test_what_a_suite_prints_between_events_is_passed_over() -> None:
    lines = [
        '["start",{"total":2}]',
        "Error: said by a test",
        "[1, 2, 3]",
        '["pass",{"title":"b","fullTitle":"a b","file":"/x/connect.js"}]',
        '["fail",{"title":"c","fullTitle":"a c","file":"/x/connect.js","err":"no\\n  way"}]',
        '["end",{"suites":1}]',
    ]

    assert read_mocha(lines) == [
        Verdict("connect: a b", Outcome.PASSED),
        Verdict("connect: a c", Outcome.FAILED, "no way"),
    ]


def test_tests_of_the_same_title_in_two_files_are_two() -> None:
    lines = [f'["pass",{{"fullTitle":"connect at all","file":"/x/{name}.js"}}]' for name in ("one", "two")]

    assert [verdict.test for verdict in read_mocha(lines)] == ["one: connect at all", "two: connect at all"]
