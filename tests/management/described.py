"""Asks a broker everything that can be made up from its description, and says where an answer is not what is described.

`python -m tests.management.described --seconds 300 --seed 7`, or `make schemathesis`: schemathesis against a broker
that is started for it on loopback. `findings` is the same for a broker that runs, and what the tests use.

Left out, with reasons:

* `positive_data_acceptance`: a description cannot say which exchange types, arguments, names or hashes are known, and a
  400 for those that are not is right.
* `ignored_auth` guesses passwords, which the broker answers with 429 for everybody at this address, as it should;
  `test_description.py` asks every endpoint without a password instead.
* Unknown parameters and fields are passed over, as RabbitMQ's clients of several versions need it, so none are made up
  as something to be refused. Numbers and truths may be texts; the description says so.
* 503 is the answer no of the health checks, by which load balancers know it, and no failure of theirs.
* `/api/livelog` has no end; `test_log.py` listens to it.
* An empty name within a path: the address is another one then.
* What would keep the rest from being asked: changing the account it is asked with, deleting the virtual host `/`.
"""

import argparse
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi import from_url

from tests.clients.running_broker import RunningBroker
from tests.management.api import LOOPBACK

ARGUMENTS: Final = ("--set", "management.port=0", "--set", "management.metrics_port=-1")
USER: Final = "who-asks"
PASSWORD: Final = "its password"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
_MORE: Final[Mapping[str, Any]] = {"coverage": {"unexpected-methods": ["patch", "trace"]}}  # of all one and a rare one
# Half of what is made up as a name becomes one that is known, so that requests reach what lies behind it; as in a path.
KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    "/api/queues/": {"vhost": "%2F", "name": "jobs"},
    "/api/exchanges/": {"vhost": "%2F", "name": "amq.topic"},
    "/api/bindings/": {"vhost": "%2F", "source": "amq.topic", "destination": "jobs"},
    "/api/users/": {"name": "guest"},
    "/api/nodes/": {},
    "/api/parameters/": {"vhost": "%2F", "component": "federation-upstream"},
    "/api/user-limits/": {"name": "guest", "limit": "max-channels"},
    "/api/vhost-limits/": {"vhost": "%2F", "limit": "max-queues"},
    "/api/": {"vhost": "%2F", "user": "guest", "protocol": "amqp"},
}


class Findings(NamedTuple):
    """How many requests were made, and each thing that was wrong once, with how to ask for it again."""

    requests: int
    found: list[str]


class Extent(NamedTuple):
    """How much is asked, and what is made up for it."""

    seed: int
    phases: tuple[str, ...] = PHASES
    examples: int = 100  # for each endpoint in each round
    seconds: int | None = None
    without: str | None = None  # a regular expression for paths


def findings(port: int, extent: Extent) -> Findings:
    """Ask the broker whose API is at this port, as `USER`."""
    schema = from_url(f"http://{LOOPBACK}:{port}/docs/openapi.json", config=_config(extent))
    schema.hook(filter_case)
    requests = 0
    found: dict[str, str] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            requests += len(event.recorder.interactions)
            found |= dict(_failures(event))
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            fault, label = _fault(event)
            found[f"{label} {fault}"] = f"{label}: {type(fault).__name__}: {fault}"
    return Findings(requests, list(found.values()))


def _fault(event: events.NonFatalError | events.FatalError) -> tuple[Exception, str | None]:
    return (event.value, event.label) if isinstance(event, events.NonFatalError) else (event.exception, None)


def _failures(event: events.ScenarioFinished) -> Iterator[tuple[str, str]]:
    """By what is the same about them, of which one is enough."""
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                failure: Failure = check.failure_info.failure
                told = f"{failure.operation}: {failure.title}\n{failure.message}\n{check.failure_info.code_sample}"
                yield f"{failure.operation} {failure.title}", told


def _config(extent: Extent) -> SchemathesisConfig:
    said: dict[str, Any] = {
        "seed": extent.seed,
        "cache": {"enabled": False},
        "request-timeout": 60,
        "suppress-health-check": ["filter_too_much", "too_slow"],
        "continue-on-failure": True,
        "auth": {"basic": {"username": USER, "password": PASSWORD}},
        "checks": {"enabled": False, **{check: {"enabled": True} for check in CHECKS}},
        "phases": {phase: {"enabled": phase in extent.phases, **_MORE.get(phase, {})} for phase in PHASES},
        "generation": {
            "max-examples": extent.examples,
            "no-shrink": True,
            "database": "none",
            "with-security-parameters": False,
            "allow-extra-parameters": False,
        },
        "operations": [
            {"include-path": "/api/livelog", "enabled": False},
            {
                "include-path-regex": "/health",
                "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]}},
            },
        ],
    }
    if extent.without is not None:
        said["operations"].append({"include-path-regex": extent.without, "enabled": False})
    if extent.seconds is not None:
        said["max-time"] = extent.seconds
    return SchemathesisConfig.from_dict(said)


def filter_case(_context: HookContext, case: Case[Any]) -> bool:
    """Whether it is asked."""
    parameters = case.path_parameters or {}
    is_change = case.method.upper() not in ("GET", "HEAD", "OPTIONS", "TRACE")
    if is_change and (USER in parameters.values() or USER in str(case.body)):
        return False
    if case.method.upper() == "DELETE" and case.path == "/api/vhosts/{vhost}" and parameters.get("vhost") == "%2F":
        return False
    return "" not in parameters.values()


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _options: dict[str, Any]) -> None:
    """Ask for what is there, half of the time; the same name becomes the same one everywhere."""
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta is not None else None
    if path is None or path.mode.is_negative or (case.method.upper(), case.path) == ("DELETE", "/api/vhosts/{vhost}"):
        return
    known = next(names for prefix, names in KNOWN.items() if f"{case.path}/".startswith(prefix))
    for name, value in (case.path_parameters or {}).items():
        if name in known and zlib.crc32(str(value).encode("utf-8", "surrogatepass")) % 2:
            case.path_parameters[name] = known[name]


def prepare(broker: RunningBroker) -> None:
    """An account to ask with, and something to ask for."""
    broker.command("user", "add", USER, "--password-stdin", given=f"{PASSWORD}\n")
    broker.command("user", "tags", USER, "administrator")
    broker.permit(USER, "/", configure=".*", write=".*", read=".*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        broker = RunningBroker(Path(home), arguments=ARGUMENTS)
        try:
            broker.start()
            prepare(broker)
            done = findings(broker.http_port, Extent(asked.seed, seconds=asked.seconds))
            code = broker.stop()
            log = broker.log
        finally:
            broker.end_by_force()
    found = done.found
    found += [line for line in log.splitlines() if "request failed" in line or "Traceback" in line]
    found += [f"the broker ended with {code}"] if code else []
    print("\n\n".join([*found, f"{done.requests} requests with seed {asked.seed}, {len(found)} findings"]))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
