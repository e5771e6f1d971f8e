"""The management process: started by the supervisor with its listeners, it serves them until nobody asks any more."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from litestar.types import ASGIApp

from ipc.allocator import return_large_blocks
from ipc.data_directory import DataDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.limits import HTTP_GRACE_SECONDS, HTTP_HEADER_BYTES_MAX, HTTP_IDLE_SECONDS
from ipc.link import Link, LinkClosed
from ipc.log import configure_logging
from ipc.messages.commands import Compact
from ipc.messages.fingerprint import fingerprint
from ipc.messages.management import Begin, ManagementCommand
from ipc.messages.reports import Hello
from runtime.auth.directory import Directory
from runtime.management.access import Gate, OpenGate
from runtime.management.app import api, metrics_only
from runtime.management.broker import Broker, ManagementLink
from runtime.management.hearing import heard_out
from runtime.management.idleness import Idleness
from runtime.management.reclaim import Holdings, Reclaim

_log: structlog.stdlib.BoundLogger = structlog.get_logger("management")


async def _main(end: socket.socket, local: Sequence[int], http: Sequence[int], metrics: Sequence[int]) -> int:
    link: ManagementLink = Link(end, ManagementCommand)
    try:
        await link.send(Hello(fingerprint(), "management", os.getpid()))
        begin, handed = await link.receive()
    except LinkClosed:
        return ExitCode.OK
    assert isinstance(begin, Begin)
    main = begin.settings.main
    copies = socket.socket(fileno=handed[0]) if handed else None
    configure_logging(main.log_level, main.log_format, path=main.log_file, copies=copies)
    logging.getLogger("hypercorn").setLevel(logging.WARNING)
    directory = Directory.open(DataDirectory(begin.data_directory), begin.settings.users)
    broker = Broker(link, begin, directory.reload, [_address(descriptor) for descriptor in http])
    gate = Gate(directory, broker, lambda: broker.settings.users)
    idleness = Idleness(lambda: broker.settings.management.idle_seconds)
    reclaim = Reclaim(Holdings(broker, gate, directory), broker, idleness)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                _hear, broker, lambda compact: nursery.start_soon(reclaim.run, compact), nursery.cancel_scope
            )
            nursery.start_soon(reclaim.run_when_idle)
            async with trio.open_nursery() as servers:
                for app, descriptors in (
                    (api(broker, OpenGate(directory)), local),
                    (api(broker, gate), http),
                    (metrics_only(broker, OpenGate(directory)), metrics),
                ):
                    if descriptors:
                        servers.start_soon(_serve, idleness, app, descriptors)
            nursery.cancel_scope.cancel()
    finally:
        directory.close()
        link.close()
    return ExitCode.OK


async def _serve(idleness: Idleness, app: ASGIApp, descriptors: Sequence[int]) -> None:
    watched = cast(ASGIFramework, idleness.watched(heard_out(app)))
    await serve(watched, _config(descriptors), shutdown_trigger=idleness.passed)


async def _hear(broker: Broker, compact: Callable[[Compact], None], everything: trio.CancelScope) -> None:
    try:
        await broker.run(compact)
    except LinkClosed:
        everything.cancel()  # the supervisor is gone, and its listeners with it


def _address(descriptor: int) -> tuple[str, int]:
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        host, port = listener.getsockname()[:2]
    return host, port


def _config(descriptors: Sequence[int]) -> Config:
    config = Config()
    config.bind = [f"fd://{descriptor}" for descriptor in descriptors]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.graceful_timeout = HTTP_GRACE_SECONDS
    config.keep_alive_timeout = HTTP_IDLE_SECONDS
    config.h11_max_incomplete_size = HTTP_HEADER_BYTES_MAX
    return config


def main() -> None:
    """`python -m runtime.management LOCAL HTTP,… METRICS,… LINK`: descriptors of listeners, and of the link."""
    local, http, metrics, link = sys.argv[1:]
    return_large_blocks()
    end = socket.socket(fileno=int(link))
    try:
        sys.exit(trio.run(_main, end, _numbers(local), _numbers(http), _numbers(metrics)))
    except StartRefused as refusal:
        _log.error("management process cannot start", reason=str(refusal))
        sys.exit(refusal.exit_code)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


if __name__ == "__main__":
    main()
