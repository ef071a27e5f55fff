"""Health over HTTP: ``/livez`` (the process turns) and ``/readyz`` (it can do its work)."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

Probe = Callable[[], Awaitable[str | None]]
"""None when all is well, else what is not."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The service runner owns the signals."""
        yield


def build_server(name: str, host: str, port: int, probe: Probe, routes: Sequence[BaseRoute]) -> uvicorn.Server:
    """An HTTP server with the health routes and whatever else the service mounted."""

    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"service": name, "status": "live"})

    async def readyz(_: Request) -> JSONResponse:
        problem = await probe()
        if problem is None:
            return JSONResponse({"service": name, "status": "ready"})
        return JSONResponse({"service": name, "status": "not ready", "reason": problem}, status_code=503)

    app = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), *routes])
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    return _Server(config)
