"""The table of suites: who ships them, which release, and how each is told where its broker is.

Releases are exact, because docs/conformance.md speaks of single tests. What needs TLS or the management API is left out
until the broker has them; a suite's own unit tests, which talk to no broker, are not run.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

AMQP_PORT: Final = 5672


class Language(Enum):
    """Decides where a suite comes from and what runs it."""

    PYTHON = "python"
    NODE = "node"


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One row; `{host}` and `{port}` in `variables` are replaced by the broker's."""

    name: str
    language: Language = Language.PYTHON
    distribution: str  # as its registry calls it
    version: str
    tests: tuple[str, ...]  # below the root of what was unpacked
    tools: tuple[str, ...]  # installed beside it
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    plugins: tuple[str, ...] = ()  # modules of tests/conformance/beside
    left_out: tuple[str, ...] = ()  # regular expressions; a test in whose name one is found is not run
    port: int = 0  # its client's own, where the suite cannot be told another; 0 is any
    wants_localhost: bool = False  # nor another address than what the machine calls localhost
    wants_containers: bool = False  # it starts its brokers itself, through Docker's API
    test_seconds_max: int = 60
    seconds_max: int = 600


PYTEST: Final = ("pytest==9.2.0", "pytest-timeout==2.4.0")
AIOMISC: Final = ("aiomisc==18.0.37", "aiomisc-pytest==2.0.0")

SUITES: Final = (
    Suite(
        name="py-amqp",
        distribution="amqp",
        version="5.4.2",
        tests=("t/integration",),
        tools=PYTEST,
        arguments=("-c", "setup.cfg"),
        variables={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
        left_out=(r"\[tls", r"test_tls_"),  # the last two of them ask a public host
    ),
    Suite(
        name="kombu",
        distribution="kombu",
        version="5.7.0",
        tests=("t/integration/test_py_amqp.py",),
        tools=PYTEST,
        arguments=("-c", "setup.cfg"),
        variables={"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
    ),
    Suite(
        name="aio-pika",
        distribution="aio-pika",
        version="10.2.1",
        tests=("tests",),
        tools=(*PYTEST, *AIOMISC, "shortuuid==1.0.13"),
        arguments=("-c", "pyproject.toml", "-o", "log_cli=false"),
        left_out=(r"test_amqps\.py",),
        wants_containers=True,
        test_seconds_max=60,  # those that restart a broker among them
        seconds_max=1200,
    ),
    Suite(
        name="aiormq",
        distribution="aiormq",
        version="7.2.4",
        tests=("tests",),
        tools=(*PYTEST, *AIOMISC),
        arguments=("-c", "pyproject.toml"),
        variables={"CONFORMANCE_BROKER": "amqp://guest:guest@{host}:{port}//"},
        plugins=("conformance_aiormq",),
        left_out=(r"\[(.+-)?amqps(-client)?(-.+)?\]", r"::test_ssl_(verification|context$)"),
    ),
    Suite(
        name="amqpstorm",
        distribution="amqpstorm",
        version="3.1.4",
        tests=("amqpstorm/tests/functional",),
        tools=(*PYTEST, "requests==2.32.5"),
        arguments=("-c", "setup.cfg"),  # has nothing for pytest, but keeps it from looking further up
        variables={
            "AMQP_HOST": "{host}",
            "AMQP_USERNAME": "guest",
            "AMQP_PASSWORD": "guest",
            "AMQP_URI": "amqp://guest:guest@{host}:{port}/%2F",
            "AMQP_HTTP_URL": "http://{host}:15672",
            "AMQP_CAFILE": "/nonexistent",
        },
        plugins=("conformance_amqpstorm",),
        left_out=(r"functional/(management|ssl)/", r"test_web_based\.py"),
        port=AMQP_PORT,
        test_seconds_max=120,
    ),
    Suite(
        name="amqplib",
        language=Language.NODE,
        distribution="amqplib",
        version="0.10.9",
        tests=("test/connect.js", "test/channel_api.js", "test/callback_api.js"),
        tools=("mocha@9.2.2",),
        arguments=("--check-leaks", "--ui", "tdd", "--exit"),
        variables={"URL": "amqp://{host}:{port}"},
        port=AMQP_PORT,
        wants_localhost=True,  # four tests of connect.js connect there, whatever the variable says
        test_seconds_max=20,
    ),
)


def chosen(names: str) -> list[Suite]:
    """Those of a list like `py-amqp,kombu`, in the table's order; all when it is empty."""
    wanted = names.replace(",", " ").split()
    known = [suite.name for suite in SUITES]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no such suite: {', '.join(unknown)}; there are {', '.join(known)}")
    return [suite for suite in SUITES if suite.name in wanted or not wanted]
