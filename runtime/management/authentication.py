"""Has every request wait until it is known who asks."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from runtime.management.access import Gate, OpenGate


class Authentication(AbstractAuthenticationMiddleware):
    """Leaves a `Caller` in `request.user`."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        gate: Gate | OpenGate = connection.app.state.gate
        address = connection.client.host if connection.client is not None else "127.0.0.1"
        caller = await gate.admit(connection.headers.get("authorization"), address)
        return AuthenticationResult(user=caller, auth=None)
