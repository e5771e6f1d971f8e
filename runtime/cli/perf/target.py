"""Which broker is meant: `amqp://user:password@host:port/vhost`, as the AMQP URI specification has it."""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import click
from msgspec import Struct

P = ParamSpec("P")
R = TypeVar("R")

URI: Final = "amqp://guest:guest@localhost:5672/%2F"
PORT: Final = 5672


class Target(Struct, frozen=True):
    """Where the broker listens, who we are and which virtual host we want."""

    host: str
    port: int
    user: str
    password: str
    vhost: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_uri(uri: str) -> Target:
    """Parts that are missing are guest, guest, localhost, 5672 and `/`. Raises ValueError with a sentence."""
    parts = urlsplit(uri)
    if parts.scheme == "amqps":
        raise ValueError("amqps is not supported: give the broker an amqp listener for the time of the measurement")
    if parts.scheme != "amqp":
        raise ValueError(f"{uri} is no AMQP URI; expected amqp://user:password@host:port/vhost")
    try:
        port = parts.port or PORT
    except ValueError as fault:
        raise ValueError(f"the port in {uri} is none") from fault
    vhost = unquote(parts.path[1:])
    if "/" in parts.path[1:]:
        raise ValueError(f"a slash in the virtual host of {uri} must be written %2F")
    return Target(
        host=parts.hostname or "localhost",
        port=port,
        user=unquote(parts.username or "guest"),
        password=unquote("guest" if parts.password is None else parts.password),
        vhost=vhost or "/",
    )


class UriType(click.ParamType[Target]):
    """`--uri` on the command line."""

    name = "URI"

    def convert(self, value: str | Target, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        if isinstance(value, Target):
            return value
        try:
            return parse_uri(value)
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


def reaching(command: Callable[P, R]) -> Callable[P, R]:
    """Adds the option that says which broker is meant."""
    return click.option(
        "--uri",
        "target",
        type=UriType(),
        metavar="URI",
        default=URI,
        show_default=True,
        envvar="EBBMQ_PERF_URI",
        help="The broker: amqp://user:password@host:port/vhost.",
    )(command)
