"""Runs one suite against one fresh broker, in a process group of its own that is ended when its time is up."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tests.conformance.brokers import LOOPBACK, LOOPBACK_IPV6, Make, address_with_free
from tests.conformance.containers import Containers, served
from tests.conformance.obtaining import Obtained
from tests.conformance.suites import Language, Suite
from tests.conformance.verdicts import READ, Outcome, Verdict

BESIDE: Final = Path(__file__).parent / "beside"

_TRACEBACK: Final = "Traceback (most recent call last)"


class Run(msgspec.Struct, frozen=True):
    """What a suite said, and what was wrong beside its tests; `output` is all it printed."""

    suite: Suite
    verdicts: list[Verdict]
    troubles: list[str]
    output: Path

    def count(self, outcome: Outcome) -> int:
        return sum(verdict.outcome is outcome for verdict in self.verdicts)

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.outcome is Outcome.FAILED]


def run(suite: Suite, obtained: Obtained, make: Make, home: Path) -> Run:
    """Everything it leaves is below `home`, which is emptied first: the broker's data and log, and the output."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    lines = home / "lines"
    output = home / "output"
    troubles: list[str] = []
    with _surroundings(suite, make, home, troubles) as variables:
        ended = _run_bounded(suite, obtained, lines, output, variables)
    if ended:
        troubles.append(ended)
    written = {Language.PYTHON: lines, Language.NODE: output}[suite.language]
    verdicts = READ[suite.language](written.read_text(errors="replace").splitlines() if written.exists() else ())
    if not verdicts:
        troubles.append("ran no test")
    return Run(suite, verdicts, troubles, output)


@contextmanager
def _surroundings(suite: Suite, make: Make, home: Path, troubles: list[str]) -> Iterator[Mapping[str, str]]:
    """Yields the variables that tell the suite where its broker is; looks into the broker's log afterwards."""
    if suite.wants_containers:
        containers = Containers(lambda number: make.prepare(home / f"broker-{number}"))
        with served(containers) as docker_host:
            yield {"DOCKER_HOST": docker_host}
        logs = list(containers.logs())
    else:
        addresses = _addresses(suite)
        broker = make.prepare(home / "broker", addresses=addresses, port=suite.port)
        try:
            broker.start()
            where = {"host": addresses[0], "port": str(broker.port)}
            yield {name: value.format(**where) for name, value in suite.variables.items()}
            broker.stop()
        except AssertionError as refused:
            troubles.append(f"the broker did not start or did not end: {refused}")
        finally:
            broker.end_by_force()
        logs = [broker.log]
    if tracebacks := sum(log.count(_TRACEBACK) for log in logs):
        troubles.append(f"the broker logged {tracebacks} tracebacks")


def _addresses(suite: Suite) -> Sequence[str]:
    if suite.wants_localhost:
        return (LOOPBACK, LOOPBACK_IPV6)
    return (address_with_free(suite.port) if suite.port else LOOPBACK,)


def _run_bounded(
    suite: Suite, obtained: Obtained, lines: Path, output: Path, variables: Mapping[str, str]
) -> str | None:
    """What there is to say when it was not let run to its end."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            _COMMAND[suite.language](suite, obtained),
            cwd=obtained.sources,
            env=_environment(suite, lines) | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(suite.seconds_max)
        except subprocess.TimeoutExpired:
            return f"not finished within {suite.seconds_max} s"
        finally:
            _end_group(process)
    return None


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Also what the suite started and left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _pytest(suite: Suite, obtained: Obtained) -> list[str]:
    plugins = [f"-p{plugin}" for plugin in ("conformance_report", "no:cacheprovider", *suite.plugins)]
    bounds = [f"--timeout={suite.test_seconds_max}", "--rootdir=."]
    return [str(obtained.python), "-m", "pytest", "-q", "-ra", *plugins, *bounds, *suite.arguments, *suite.tests]


def _mocha(suite: Suite, obtained: Obtained) -> list[str]:
    bounds = ["--timeout", str(suite.test_seconds_max * 1000), "--reporter", "json-stream"]
    return [str(obtained.mocha), *bounds, *suite.arguments, *suite.tests]


_COMMAND: Final = {Language.PYTHON: _pytest, Language.NODE: _mocha}


def _environment(suite: Suite, lines: Path) -> dict[str, str]:
    """Ours, without what would lead the suite to other modules, settings or hosts than its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EBBMQ_", "PYTHON", "PYTEST_", "RABBITMQ_", "AMQP_", "DOCKER_", "TOX_"))
    }
    return kept | {
        "PYTHONPATH": str(BESIDE),
        "CONFORMANCE_LINES": str(lines),
        "CONFORMANCE_LEFT_OUT": "\n".join(suite.left_out),
    }
