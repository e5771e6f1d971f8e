"""What a shell offers at TAB: names of virtual hosts, queues, exchanges and users, as far as a broker answers soon."""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import click
from click.shell_completion import CompletionItem

from ipc.errors import ControlFailed, StartRefused
from runtime.cli.ctl.client import Api

PATIENCE_SECONDS: Final = 2.0
OFFERED_MAX: Final = 200


class Asked(Protocol):
    """What a command line so far says about whom to ask."""

    vhost: str
    timeout_seconds: float | None

    @property
    def api(self) -> Api: ...

    def close(self) -> None: ...


_Asking = Callable[[Asked, str], Iterable[dict[str, Any]]]


class Named(click.ParamType):  # type: ignore[type-arg]  # click 8.1 knows no argument of it
    """Takes any text; the broker is asked for names while one is typed, and nobody is told if it does not answer."""

    def __init__(self, name: str, ask: _Asking) -> None:
        self.name = name
        self._ask = ask

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        ctl: Asked = ctx.find_root().obj
        ctl.timeout_seconds = PATIENCE_SECONDS
        try:
            found = [document["name"] for document in self._ask(ctl, incomplete)]
        except (ControlFailed, StartRefused, click.ClickException):
            return []
        finally:
            ctl.close()
        return [CompletionItem(name) for name in found if name.startswith(incomplete)][:OFFERED_MAX]


def _page(ctl: Asked, beginning: str, *path: str) -> Iterable[dict[str, Any]]:
    found: dict[str, Any] = ctl.api.get(*path, page=1, page_size=OFFERED_MAX, name=beginning or None, columns="name")
    return list(found["items"])


VHOST: Final = Named("vhost", lambda ctl, _beginning: ctl.api.get("vhosts"))
USER: Final = Named("user", lambda ctl, _beginning: ctl.api.get("users"))
QUEUE: Final = Named("queue", lambda ctl, beginning: _page(ctl, beginning, "queues", ctl.vhost))
EXCHANGE: Final = Named("exchange", lambda ctl, beginning: _page(ctl, beginning, "exchanges", ctl.vhost))
CONNECTION: Final = Named("connection", lambda ctl, beginning: _page(ctl, beginning, "connections"))
