"""The front door of the broker: listeners outside, links to the shards inside."""

from collections.abc import Callable, Sequence

import trio

from ipc.settings import Settings
from runtime.auth.directory import Directory
from runtime.auth.login_record import LoginRecord
from runtime.roster import Roster
from runtime.router.handshake import Handshake
from runtime.router.listening import amqp, open_listeners
from runtime.router.lobby import Lobby
from runtime.router.turnstile import CountConnections, Turnstile

__all__ = ["amqp", "open_listeners", "serve"]


async def _none(_user: str) -> int:
    """Where there are no shards to ask, nobody is let in often enough to be counted."""
    return 0


def _nobody(_lobby: Lobby) -> None:
    """Who neither asks for memory back nor shuts doors need not know the lobby."""


async def serve(
    listeners: Sequence[trio.SocketListener],
    roster: Roster,
    directory: Directory,
    settings_source: Callable[[], Settings],
    record: LoginRecord,
    *,
    count_connections: CountConnections = _none,
    own: Callable[[Lobby], None] = _nobody,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept and hand over until cancelled; then the listeners are closed, and with them whoever still negotiates.

    `count_connections` says how many a user has; `own` is given the lobby, which holds memory and the doors.
    """
    try:
        async with trio.open_nursery() as nursery:
            turnstile = Turnstile(directory, count_connections)
            handshake = Handshake(roster, directory, record, settings_source, turnstile)
            lobby = Lobby(handshake, settings_source, nursery)
            own(lobby)
            nursery.start_soon(lobby.see_off)
            task_status.started()
            await lobby.run(listeners)
    finally:
        for listener in listeners:
            listener.socket.close()
