"""Documents promise "in the words of the test that proves it": those tests exist."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
# What conformance.md names are tests of others.
DOCUMENTS = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "conformance.md"})
DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
OF_A_FILE = re.compile(r"(?P<file>(?:tests/[\w/]+/)?test_\w+\.py)(?:::(?P<name>\w+)(?:\[.*\])?)?")
RUN = re.compile(r"TESTS=(tests/[\w./]+)")


@cache
def names_in(file: Path) -> frozenset[str]:
    return frozenset(DEFINED.findall(file.read_text()))


@cache
def all_names() -> frozenset[str]:
    return frozenset().union(*map(names_in, TESTS.rglob("*.py")))


def missing(text: str) -> Iterator[str]:
    """Tests, and files of tests, that the text names as code and that do not exist."""
    for span in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"test_\w+", span) and span not in all_names():
            yield span
        elif cited := OF_A_FILE.fullmatch(span):
            files = [
                file for file in TESTS.rglob("test_*.py") if f"/{file.relative_to(ROOT)}".endswith(f"/{cited['file']}")
            ]
            if not any(cited["name"] is None or cited["name"] in names_in(file) for file in files):
                yield span
    yield from (path for path in RUN.findall(text) if not (ROOT / path).exists())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    assert list(missing(document.read_text())) == []


def test_a_test_that_does_not_exist_is_named() -> None:
    named = """
    `test_of_nothing`, `test_documents.py`, `tests/conf/test_nothing.py`,
    `tests/conf/test_documents.py::test_of_others[1]`,
    `test_a_test_that_does_not_exist_is_named`, `make tests TESTS=tests/nowhere`
    """
    gone = ["test_of_nothing", "tests/conf/test_nothing.py", "tests/conf/test_documents.py::test_of_others[1]"]
    assert list(missing(named)) == [*gone, "tests/nowhere"]
