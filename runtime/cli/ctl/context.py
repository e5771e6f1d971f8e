"""What every command of `ebbmqctl` is given: the broker's API, a virtual host, and a way to answer."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import click

from ipc.data_directory import DataDirectory
from ipc.errors import ControlFailed, ExitCode
from runtime.cli.accounts import settings_of
from runtime.cli.ctl.client import PATIENCE_SECONDS, Api
from runtime.cli.ctl.completion import VHOST
from runtime.cli.ctl.output import FORMATS, Output

NO_MEANING: Final = "Taken and of no meaning here"


class Ctl:
    """Where to ask, what of, and how to print; the broker is asked when a command wants to know something."""

    def __init__(self) -> None:
        self.vhost = "/"
        self.uri: str | None = None
        self.hostname: str | None = None
        self.port: int | None = None
        self.scheme = "http"
        self.user = "guest"
        self.password = "guest"  # noqa: S105 - RabbitMQ's convention; loopback only
        self.socket_path: str | None = None
        self.data_dir: str | None = None
        self.config: str | None = None
        self.timeout_seconds: float | None = None
        self.output = Output(None)
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = self.reach()
        return self._api

    @property
    def remote_uri(self) -> str | None:
        """Where to ask over HTTP; None: over the socket."""
        if self.uri or self.hostname is None:
            return self.uri
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{self.scheme}://{login}@{host}" + (f":{self.port}" if self.port else "")

    @property
    def paths(self) -> DataDirectory:
        return DataDirectory(settings_of(self.config, self.data_dir).main.data_dir)

    def close(self) -> None:
        if self._api is not None:
            self._api.close()

    def reach(self) -> Api:
        """The API by a connection of its own."""
        patience = self.timeout_seconds or PATIENCE_SECONDS
        if uri := self.remote_uri:
            return Api.remote(uri, patience_seconds=patience)
        if self.socket_path:
            path = Path(self.socket_path)
            return Api.local(path, f"the broker behind {path}", patience_seconds=patience)
        return Api.local(self.paths.http, f"the broker on data directory {self.paths.root}", patience_seconds=patience)


pass_ctl = click.make_pass_decorator(Ctl)


class GlobalOption(click.Option):
    """One that may stand before a command's name and behind it."""


class FormatName(click.Choice):  # type: ignore[type-arg]  # click 8.1 knows no argument of it
    """A way to print; `erlang` is RabbitMQ's and needs a word."""

    def __init__(self) -> None:
        super().__init__(FORMATS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "erlang":
            raise ControlFailed(ExitCode.UNAVAILABLE, "nothing here prints Erlang terms; use --formatter json.")
        return super().convert(value, param, ctx)


class _Spec(NamedTuple):
    """An option that every command takes: what it is called, what it sets, and what it is for."""

    spellings: tuple[str, ...]
    field: str  # of Ctl or Output; empty: of no meaning
    help: str
    kind: Any = None
    metavar: str | None = None
    flag: Any = None  # what a flag sets; None: it is no flag
    variable: str | None = None  # of the environment


_SPECS: Final = (
    _Spec(("-p", "--vhost"), "vhost", "Virtual host. [default: /]", kind=VHOST, metavar="VHOST"),
    _Spec(
        ("-U", "--uri"),
        "uri",
        "Ask over HTTP: http://user:password@host:15672.",
        metavar="URI",
        variable="EBBMQCTL_URI",
    ),
    _Spec(("-H", "--hostname", "--host"), "hostname", "Ask this host over HTTP, as --user.", metavar="HOST"),
    _Spec(("-P", "--port"), "port", "Its port. [default: 15672]", kind=click.IntRange(1, 65535), metavar="PORT"),
    _Spec(("--scheme",), "scheme", "http or https. [default: http]", kind=click.Choice(("http", "https"))),
    _Spec(("--user",), "user", "Who asks with --hostname. [default: guest]", metavar="USER"),
    _Spec(("--password",), "password", "The password of --user. [default: guest]", metavar="PASSWORD"),
    _Spec(("--control-unix-path",), "socket_path", "The broker's socket `http.sock`, wherever it is.", metavar="PATH"),
    _Spec(("--data-dir",), "data_dir", "The broker's data directory, where its socket is.", metavar="DIRECTORY"),
    _Spec(("--config",), "config", "The broker's settings file, which names its data directory.", metavar="FILE"),
    _Spec(
        ("-f", "--formatter", "--format"),
        "output.form",
        "How to print. [default: a table for a terminal, else text]",
        kind=FormatName(),
    ),
    _Spec(("-q", "--quiet"), "output.is_quiet", "Print the answer, and not what is being done.", flag=True),
    _Spec(("-s", "--silent"), "output.is_silent", "The same, without names of columns.", flag=True),
    _Spec(("--no-table-headers",), "output.has_headers", "Print no names of columns.", flag=False),
    _Spec(
        ("-t", "--timeout"),
        "timeout_seconds",
        "How long to wait for an answer. [default: 300]",
        kind=click.FloatRange(min=0),
        metavar="SECONDS",
    ),
    _Spec(("-n", "--node"), "", f"{NO_MEANING}: there is one node.", metavar="NODE"),
    _Spec(("-l", "--longnames"), "", f"{NO_MEANING}, likewise.", flag=True),
    _Spec(("--erlang-cookie",), "", f"{NO_MEANING}: there is no Erlang.", metavar="COOKIE"),
    _Spec(("--print-stacktrace",), "", f"{NO_MEANING}: a refusal is a sentence.", flag=True),
)


def global_options(taken: Collection[str] = (), *, is_above: bool = False) -> list[click.Parameter]:
    """Those that every command takes, as far as a command's own are not spelled like them.

    `is_above`: before a command's name, where the environment is asked as well; behind it only what is said counts.
    """
    options: list[click.Parameter] = []
    for spec in _SPECS:
        spellings = [spelling for spelling in spec.spellings if spelling not in taken]
        if any(spelling.startswith("--") for spelling in spellings):
            options.append(_option(spec, spellings, variable=spec.variable if is_above else None))
    return options


def _option(spec: _Spec, spellings: list[str], *, variable: str | None) -> GlobalOption:
    name = f"of_all_{spec.spellings[-1].strip('-').replace('-', '_')}"
    facts: dict[str, Any] = {"help": spec.help, "expose_value": False, "callback": _storing(spec), "envvar": variable}
    if spec.flag is None:
        facts |= {"type": spec.kind, "metavar": spec.metavar, "default": None}
    else:
        facts |= {"is_flag": True, "default": False}
    return GlobalOption([name, *spellings], **facts)


def _storing(spec: _Spec) -> Any:
    def store(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if not spec.field or value is None or (spec.flag is not None and not value):
            return
        ctl = context.ensure_object(Ctl)
        where, _, field = spec.field.rpartition(".")
        setattr(ctl.output if where else ctl, field, value if spec.flag is None else spec.flag)

    return store
