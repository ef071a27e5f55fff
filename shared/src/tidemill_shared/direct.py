"""Routes past the framework: its layers around an endpoint cost several times what a quick answer does."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class Direct(Route):
    """A route of plain ASGI that makes an answer of whatever goes wrong; its parameters are plain segments."""


class Front:
    """Direct routes first, in their order, then the framework with all others."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        # The route's app and not the route: what was put around it, such as the door, stays around it.
        self._direct = [(route.path_regex.match, route.app) for route in routes if isinstance(route, Direct)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            for match, app in self._direct:
                found = match(scope["path"])
                if found:
                    scope["path_params"] = found.groupdict()
                    await app(scope, receive, send)
                    return
        await self._app(scope, receive, send)
