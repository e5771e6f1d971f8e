"""A pytest plugin beside every Python suite: leaves tests out, and writes what happened as it happens, a line each.

Loaded by the suite's own interpreter, so it imports nothing of ours. A run that is ended because its time is up keeps
the lines it has written.
"""

import json
import os
import re
from pathlib import Path
from typing import Final

import pytest

LINES: Final = Path(os.environ["CONFORMANCE_LINES"])
LEFT_OUT: Final = [re.compile(pattern) for pattern in os.environ["CONFORMANCE_LEFT_OUT"].splitlines()]
MESSAGE_CHARACTERS_MAX: Final = 300


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if any(pattern.search(item.nodeid) for pattern in LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write(report.nodeid, "failed", _message(report))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Three phases a test: what sets up and tears down is only told when it says something of its own."""
    if report.when == "call" or not report.passed:
        _write(report.nodeid, report.outcome, _message(report))


def _message(report: "pytest.CollectReport | pytest.TestReport") -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "")
    return " ".join(text.split())[:MESSAGE_CHARACTERS_MAX]


def _write(test: str, outcome: str, message: str) -> None:
    with LINES.open("a") as lines:
        lines.write(json.dumps({"test": test, "outcome": outcome, "message": message}) + "\n")
