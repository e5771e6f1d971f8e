"""Listening sockets for every address of the settings."""

import errno
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

import structlog
import trio

from ipc.errors import ExitCode, StartRefused
from ipc.limits import FREE_PORT_TRIES
from ipc.settings import AmqpSettings

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("router")

# Set on the listener once; Linux lets every accepted socket inherit them, which saves the system calls per connection.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),  # clients without heartbeats must be found dead, too:
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),  # after a minute of silence,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),  # asked every ten seconds,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),  # three times
)

_NO_SUCH_FAMILY: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT))

Address = tuple[socket.AddressFamily, str]


class _PortTaken(Exception):
    """Somebody else listens where we want to."""


class Wanted(NamedTuple):
    """Where to listen, and what the settings that say so are called."""

    section: str
    bind: str  # addresses, separated by commas
    port: int
    backlog: int


def amqp(settings: AmqpSettings) -> Wanted:
    return Wanted("amqp", settings.bind, settings.port, settings.backlog)


async def open_listeners(wanted: Wanted) -> list[trio.SocketListener]:
    """One listener an address; port 0 means the same free port on all of them.

    Raises StartRefused: PORT_IN_USE, or SETTINGS_INVALID for an address that is none or not this machine's. An IPv6
    address on a machine without IPv6 is left out with a warning as long as another address works.
    """
    addresses = await _resolve(wanted)
    for attempt in range(FREE_PORT_TRIES):
        try:
            listening = _listen_on_all(addresses, wanted)
        except _PortTaken as taken:
            # A port the kernel chose for one address may be taken on the next; one that was asked for stays taken.
            if wanted.port != 0 or attempt == FREE_PORT_TRIES - 1:
                raise StartRefused(ExitCode.PORT_IN_USE, str(taken)) from taken
        else:
            return [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in listening]
    raise AssertionError("the last attempt either listens or refuses")


async def _resolve(wanted: Wanted) -> list[Address]:
    addresses: list[Address] = []
    for name in filter(None, (name.strip() for name in wanted.bind.split(","))):
        try:
            found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as fault:
            raise StartRefused(
                ExitCode.SETTINGS_INVALID, f"{wanted.section}.bind: '{name}' is not an address: {fault.strerror}"
            ) from fault
        addresses += [(socket.AddressFamily(family), str(where[0])) for family, _, _, _, where in found]
    if not addresses:
        raise StartRefused(ExitCode.SETTINGS_INVALID, f"{wanted.section}.bind: names no address to listen on")
    return list(dict.fromkeys(addresses))


def _listen_on_all(addresses: Iterable[Address], wanted: Wanted) -> list[socket.socket]:
    listening: list[socket.socket] = []
    absent: list[tuple[str, OSError]] = []
    port = wanted.port
    try:
        for family, host in addresses:
            try:
                one = _listen(family, host, port, wanted.backlog)
            except OSError as fault:
                if fault.errno not in _NO_SUCH_FAMILY:
                    raise _refusal(wanted.section, host, port, fault) from fault
                absent.append((host, fault))
                continue
            listening.append(one)
            port = one.getsockname()[1]
        _check_absent(wanted.section, absent, has_others=bool(listening))
    except BaseException:
        for one in listening:
            one.close()
        raise
    return listening


def _listen(family: socket.AddressFamily, host: str, port: int, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        for level, option, value in _OPTIONS:
            listener.setsockopt(level, option, value)
        if family == socket.AF_INET6:
            # Otherwise "::" would also take the IPv4 port that "0.0.0.0" is about to ask for.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        where = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        listener.bind(where)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _check_absent(section: str, absent: list[tuple[str, OSError]], *, has_others: bool) -> None:
    for host, fault in absent:
        if ":" not in host or not has_others:
            raise StartRefused(
                ExitCode.SETTINGS_INVALID, f"{section}.bind: this machine has no address {host}: {fault.strerror}"
            ) from fault
        _log.warning("no IPv6 here, address left out", address=host, reason=fault.strerror)


def _refusal(section: str, host: str, port: int, fault: OSError) -> Exception:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if fault.errno == errno.EADDRINUSE:
        return _PortTaken(f"{where} is in use by another process")
    return StartRefused(ExitCode.SETTINGS_INVALID, f"{section}.bind: cannot listen on {where}: {fault.strerror}")
