"""Makes a function a command of `ebbmqctl`, with the options that all of them take."""

from collections.abc import Callable
from typing import Any, Final

import click

from runtime.cli.ctl.context import GlobalOption, global_options, pass_ctl

SEE_GLOBALS: Final = "Options that every command takes are listed by `ebbmqctl --help`."


class CtlCommand(click.Command):
    """Its help lists what is its own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        own = [option for option in options if not isinstance(option, GlobalOption)]
        records = [record for option in own if (record := option.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)
        formatter.write_paragraph()
        formatter.write_text(SEE_GLOBALS)


def command(*parameters: Callable[[Any], Any], name: str = "") -> Callable[[Callable[..., None]], click.Command]:
    """Called as the function is, with a `Ctl` first; `parameters` are click's, in order."""

    def make(function: Callable[..., None]) -> click.Command:
        decorated: Any = pass_ctl(function)
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        made = click.command(name or function.__name__, cls=CtlCommand)(decorated)
        taken = {spelling for own in made.params for spelling in own.opts}
        made.params += global_options(taken)
        return made

    return make
