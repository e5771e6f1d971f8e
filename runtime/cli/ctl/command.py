"""Makes a function a command of `ebbmqctl`, with the options that all of them take."""

from collections.abc import Callable
from typing import Any

import click

from runtime.cli.ctl.context import globals_of, pass_ctl


def command(*parameters: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """Called as the function is, with a `Ctl` first; `parameters` are click's, in order."""

    def make(function: Callable[..., None]) -> click.Command:
        decorated: Any = pass_ctl(function)
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        return click.command(function.__name__)(globals_of(decorated))

    return make
