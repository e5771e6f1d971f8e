"""Puts the HTTP API together: routes, who may use them, and what becomes of everything that goes wrong."""

from typing import Final

import trio
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.middleware.base import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp

from ipc.version import VERSION
from runtime.management.access import MONITORING, Gate, OpenGate, require
from runtime.management.authentication import Authentication
from runtime.management.broker import Broker
from runtime.management.errors import HANDLERS
from runtime.management.metrics.routes import METRICS
from runtime.management.paths import decoded, undecoded
from runtime.management.resources import RESOURCES

_DOCS: Final = "/docs"
_SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "accept, accept-encoding, origin",
}


def api(broker: Broker, gate: Gate | OpenGate) -> ASGIApp:
    """All of it as one ASGI application."""
    routes = Router(
        "/api",
        route_handlers=RESOURCES,
        middleware=[decoded, DefineMiddleware(Authentication)],
        security=[{"basic": []}],
    )
    guarded = Router(
        "/",
        route_handlers=METRICS,
        middleware=[DefineMiddleware(Authentication)],
        guards=[require(MONITORING)],
        security=[{"basic": []}],
    )
    app = Litestar(
        [routes, guarded],
        state=State({"broker": broker, "gate": gate, "importing": trio.Lock()}),
        exception_handlers=HANDLERS,
        request_max_body_size=broker.settings.management.body_bytes_max,
        openapi_config=OpenAPIConfig(title="EbbMQ management", version=VERSION, path=_DOCS),
        response_headers=_SECURITY_HEADERS,
        debug=False,
        logging_config=None,
    )
    return undecoded(app)


def metrics_only(broker: Broker, gate: OpenGate) -> ASGIApp:
    """Metrics for whoever reaches their own port, which is this machine only until somebody decides otherwise."""
    return Litestar(
        METRICS,
        state=State({"broker": broker, "gate": gate}),
        exception_handlers=HANDLERS,
        openapi_config=None,
        debug=False,
        logging_config=None,
    )
