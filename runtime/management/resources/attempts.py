"""`/api/auth/attempts`: how many have logged in or tried to, by protocol and by who came from where."""

from typing import Any, Final

from litestar import delete, get
from litestar.datastructures import State

from ipc.messages import control
from ipc.messages.inventory import Document
from runtime.management import answers
from runtime.management.access import MONITORING, require
from runtime.management.broker import Broker
from runtime.management.describing import does, gives_all
from runtime.management.resources.nodes import require_known

_GUARDS: Final = [require(MONITORING)]
_BY_PROTOCOL: Final = "/auth/attempts/{name:str}"
_BY_SOURCE: Final = "/auth/attempts/{name:str}/source"


async def attempts_of(broker: Broker, *, by_source: bool) -> list[control.LoginAttempt]:
    """A row for each protocol, or for each source of each."""
    replies = await broker.control(control.LoginAttempts(by_source))
    return [reply for reply in replies if isinstance(reply, control.LoginAttempt)]


def _document(counted: control.LoginAttempt, *, by_source: bool) -> Document:
    source = {"remote_address": counted.address, "username": counted.user} if by_source else {}
    return {
        **source,
        "protocol": counted.protocol,
        "auth_attempts": counted.succeeded + counted.failed,
        "auth_attempts_failed": counted.failed,
        "auth_attempts_succeeded": counted.succeeded,
    }


@get(
    _BY_PROTOCOL,
    guards=_GUARDS,
    summary="Attempts to log in, by protocol",
    operation_class=gives_all(answers.LoginAttempts),
)
async def by_protocol(state: State, name: str) -> list[Document]:
    require_known(state.broker, name)
    return [_document(row, by_source=False) for row in await attempts_of(state.broker, by_source=False)]


@get(
    _BY_SOURCE,
    guards=_GUARDS,
    summary="The same by address and user",
    operation_class=gives_all(answers.LoginAttempts),
)
async def by_source(state: State, name: str) -> list[Document]:
    """Nothing unless `users.track_auth_attempt_source` is set."""
    require_known(state.broker, name)
    return [_document(row, by_source=True) for row in await attempts_of(state.broker, by_source=True)]


@delete(
    [_BY_PROTOCOL, _BY_SOURCE],
    guards=_GUARDS,
    summary="Count attempts to log in from 0 again, however shown",
    operation_class=does(),
)
async def forget(state: State, name: str) -> None:
    require_known(state.broker, name)
    await state.broker.control(control.ForgetLoginAttempts())


ATTEMPTS: Final[list[Any]] = [by_protocol, by_source, forget]
