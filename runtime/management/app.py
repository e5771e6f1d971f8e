"""Puts the HTTP API together: routes, who may use them, and what becomes of everything that goes wrong."""

from typing import Final

import trio
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.middleware.base import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin, YamlRenderPlugin
from litestar.types import ASGIApp

from ipc.version import VERSION
from runtime.decisions.security_headers import policy_of_page
from runtime.management.access import MONITORING, Gate, OpenGate, require
from runtime.management.authentication import Authentication
from runtime.management.broker import Broker
from runtime.management.describing import components
from runtime.management.errors import HANDLERS
from runtime.management.heads import with_heads
from runtime.management.metrics.routes import METRICS
from runtime.management.options import options
from runtime.management.paths import decoded, undecoded
from runtime.management.resources import RESOURCES
from runtime.management.security import secured

_DOCS: Final = "/docs"
# The page loads its scripts from there, of this version, and has the browser load nothing else from elsewhere.
_SWAGGER_VERSION: Final = "5.18.2"
_SWAGGER: Final = f"https://cdn.jsdelivr.net/npm/swagger-ui-dist@{_SWAGGER_VERSION}/"
_VARY: Final = {"Vary": "accept, accept-encoding, origin"}


def api(broker: Broker, gate: Gate | OpenGate) -> ASGIApp:
    """All of it as one ASGI application."""
    routes = Router(
        "/api",
        route_handlers=[options(RESOURCES), *RESOURCES],
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
        openapi_config=OpenAPIConfig(
            title="EbbMQ management",
            version=VERSION,
            path=_DOCS,
            render_plugins=[_page(), YamlRenderPlugin()],
            components=components(),
        ),
        response_headers=_VARY,
        debug=False,
        logging_config=None,
    )
    return secured(with_heads(undecoded(app)), {_DOCS: policy_of_page(_SWAGGER)})


def _page() -> SwaggerRenderPlugin:
    return SwaggerRenderPlugin(
        path=["/", "/swagger"],
        css_url=f"{_SWAGGER}swagger-ui.css",
        js_url=f"{_SWAGGER}swagger-ui-bundle.js",
        standalone_preset_js_url=f"{_SWAGGER}swagger-ui-standalone-preset.js",
        favicon="",
    )


def metrics_only(broker: Broker, gate: OpenGate) -> ASGIApp:
    """Metrics for whoever reaches their own port, which is this machine only until somebody decides otherwise."""
    app = Litestar(
        METRICS,
        state=State({"broker": broker, "gate": gate}),
        exception_handlers=HANDLERS,
        openapi_config=None,
        debug=False,
        logging_config=None,
    )
    return secured(with_heads(app))
