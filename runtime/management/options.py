"""What may be done at an address: OPTIONS, for whoever asks, with all methods that somebody answers there."""

from collections.abc import Iterable
from typing import Any

from litestar import HttpMethod, Request, Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from runtime.management.empty import empty


def options(handlers: Iterable[Any]) -> HTTPRouteHandler:
    """Of all addresses of these. Litestar's own answer, made where there is no other, knows one handler of each."""
    paths = sorted({path for handler in handlers for path in handler.paths})

    @route(paths, http_method=HttpMethod.OPTIONS, include_in_schema=False)
    async def tell(request: Request[Any, Any, Any]) -> Response[bytes]:
        here = request.scope["path_template"]
        routes = [one for one in request.app.routes if one.path_format == here and isinstance(one, HTTPRoute)]
        return empty(204, {"Allow": allowed(method for one in routes for method in one.methods)})

    return tell


def allowed(methods: Iterable[str]) -> str:
    """In the words of the header, in which HEAD stands beside GET: routes know nothing of it."""
    found = set(methods)
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))
