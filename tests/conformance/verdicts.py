"""What became of each test, read from the lines that a suite's runner writes while it runs."""

import json
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.conformance.suites import Language

MESSAGE_CHARACTERS_MAX: Final = 300


class Outcome(Enum):
    """The worst of a test's phases counts."""

    SKIPPED = "skipped"
    PASSED = "passed"
    FAILED = "failed"


class Verdict(msgspec.Struct, frozen=True):
    """Of one test, named as its runner names it."""

    test: str
    outcome: Outcome
    message: str = ""


_RANK: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}


def read_pytest(lines: Iterable[str]) -> list[Verdict]:
    """Lines of the plugin `conformance_report`: a test that passed may still fail while it is torn down."""
    return _worst(msgspec.json.decode(line, type=Verdict) for line in lines)


def read_mocha(lines: Iterable[str]) -> list[Verdict]:
    """Lines of the reporter `json-stream`, among what the tests themselves print; a title alone may come twice."""
    return _worst(
        Verdict(f"{Path(test['file']).stem}: {test['fullTitle']}", _MOCHA[event], _shortened(test.get("err", "")))
        for event, test in map(_event, lines)
        if event in _MOCHA
    )


READ: Final[dict[Language, Callable[[Iterable[str]], list[Verdict]]]] = {
    Language.PYTHON: read_pytest,
    Language.NODE: read_mocha,
}

_MOCHA: Final = {"pass": Outcome.PASSED, "fail": Outcome.FAILED}


def _event(line: str) -> tuple[str, dict[str, Any]]:
    try:
        event, test = json.loads(line)
    except ValueError:
        return "", {}
    return (event, test) if isinstance(event, str) and isinstance(test, dict) else ("", {})


def _shortened(message: str) -> str:
    return " ".join(message.split())[:MESSAGE_CHARACTERS_MAX]


def _worst(verdicts: Iterable[Verdict]) -> list[Verdict]:
    worst: dict[str, Verdict] = {}
    for verdict in verdicts:
        before = worst.get(verdict.test)
        if before is None or _RANK[verdict.outcome] > _RANK[before.outcome]:
            worst[verdict.test] = verdict
    return list(worst.values())
