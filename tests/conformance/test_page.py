"""docs/conformance.md says what the runner does: the same suites and releases, and rows that the runner can read."""

import pytest

from tests.conformance import known
from tests.conformance.known import KnownFailure
from tests.conformance.suites import SUITES, Suite


def test_every_row_of_the_table_is_read() -> None:
    page = known.PAGE.read_text()
    table = page.partition("<!-- known failures -->")[2].partition("<!-- /known failures -->")[0]

    assert len(known.read(page)) == len(table.strip().splitlines()) - len(("heading", "rule"))


def test_every_row_names_a_suite_that_runs() -> None:
    assert {row.suite for row in known.read(known.PAGE.read_text())} <= {suite.name for suite in SUITES}


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_page_names_the_release_that_runs(suite: Suite) -> None:
    assert f"| {suite.name} | {suite.distribution} {suite.version} |" in known.PAGE.read_text()


def test_brackets_in_a_row_mean_themselves_and_a_star_means_anything() -> None:
    row = KnownFailure("kombu", "t/a.py::test_b[*-2]", "because")

    assert row.covers("kombu", "t/a.py::test_b[1-2]")
    assert not row.covers("kombu", "t/a.py::test_b[1-3]")
    assert not row.covers("kombu", "t/a.py::test_b-2")
    assert not row.covers("aiormq", "t/a.py::test_b[1-2]")
