"""What every command of `ebbmqctl` is given: the broker's API, a virtual host, and a way to answer."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ipc.data_directory import DataDirectory
from runtime.cli.accounts import settings_of
from runtime.cli.ctl.client import Api
from runtime.cli.ctl.output import FORMATS, Format, Output

Command = TypeVar("Command", bound=Callable[..., Any])


class Ctl:
    """Where to ask, what of, and how to print; the broker is asked when a command wants to know something."""

    def __init__(self) -> None:
        self.vhost = "/"
        self.uri: str | None = None
        self.data_dir: str | None = None
        self.config: str | None = None
        self.output = Output(None)
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = Api.remote(self.uri) if self.uri else Api.local(self.paths)
        return self._api

    @property
    def paths(self) -> DataDirectory:
        return DataDirectory(settings_of(self.config, self.data_dir).main.data_dir)

    def close(self) -> None:
        if self._api is not None:
            self._api.close()


pass_ctl = click.make_pass_decorator(Ctl)


def globals_of(command: Command) -> Command:
    """Adds the options that rabbitmqctl takes before a command's name and behind it."""
    for option in reversed(_GLOBALS):
        command = option(command)
    return command


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def store(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            setattr(context.ensure_object(Ctl), name, value)

    return store


def _choose(context: click.Context, _parameter: click.Parameter, value: Format | None) -> None:
    if value is not None:
        context.ensure_object(Ctl).output.form = value


def _quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Ctl).output.is_quiet = True


def _bare(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Ctl).output.has_headers = False


_GLOBALS = (
    click.option(
        "-p", "--vhost", "of_vhost", expose_value=False, callback=_store("vhost"), help="Virtual host. [default: /]"
    ),
    click.option(
        "-U",
        "--uri",
        metavar="URI",
        envvar="EBBMQCTL_URI",
        expose_value=False,
        callback=_store("uri"),
        help="Ask over HTTP: http://user:password@host:15672.",
    ),
    click.option("--data-dir", expose_value=False, callback=_store("data_dir"), help="The broker's data directory."),
    click.option("--config", expose_value=False, callback=_store("config"), help="The broker's settings file."),
    click.option(
        "-f",
        "--formatter",
        "--format",
        type=click.Choice(FORMATS),
        expose_value=False,
        callback=_choose,
        help="How to print. [default: a table for a terminal, else text]",
    ),
    click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="Print the answer only."),
    click.option("-s", "--silent", is_flag=True, expose_value=False, callback=_quiet, help="The same."),
    click.option(
        "--no-table-headers", is_flag=True, expose_value=False, callback=_bare, help="Print no names of columns."
    ),
    click.option("-n", "--node", expose_value=False, help="Of no meaning here: there is one node."),
    click.option("-t", "--timeout", expose_value=False, help="Of no meaning here: answers come at once."),
)
