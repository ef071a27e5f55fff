"""Health over HTTP: ``/livez`` (the process turns) and ``/readyz`` (it can do its work)."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from tidemill_shared.direct import Front
from tidemill_shared.errors import Overloaded
from tidemill_shared.http_wire import BoundedHttp

Probe = Callable[[], Awaitable[str | None]]
"""None when all is well, else what is not."""
Halted = Callable[[], Sequence[str]]
"""Streams no longer read."""


_FRESH_SECONDS = 0.2
"""Health needs no key, so that whoever asks must not make each question one for Redis and the store too."""


class Readiness:
    """Asks the probe for everybody who waits, and not again for a moment."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._asking = asyncio.Lock()
        self._until = -1.0
        self._problem: str | None = None

    async def problem(self) -> str | None:
        """None when all is well, else what was not, a moment ago at most."""
        async with self._asking:
            if time.monotonic() > self._until:
                self._problem = await self._probe()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._problem


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The service runner owns the signals."""
        yield


def build_server(
    name: str, host: str, port: int, probe: Probe, routes: Sequence[BaseRoute], halted: Halted = tuple
) -> uvicorn.Server:
    """An HTTP server with the health routes and whatever else the service mounted."""

    readiness = Readiness(probe)

    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"service": name, "status": "live"})

    async def readyz(_: Request) -> JSONResponse:
        problem = await readiness.problem()
        said = {"halted": list(halted())} if halted() else {}
        if problem is None:
            return JSONResponse({"service": name, "status": "ready"} | said)
        return JSONResponse({"service": name, "status": "not ready", "reason": problem} | said, status_code=503)

    async def overloaded(_: Request, error: Exception) -> JSONResponse:
        seconds = error.retry_after_seconds if isinstance(error, Overloaded) else 1.0
        return JSONResponse({"error": str(error)}, 503, {"retry-after": str(math.ceil(seconds))})

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for these alone
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    app = Starlette(
        exception_handlers={Overloaded: overloaded, HTTPException: refused},
        routes=[Route("/livez", livez), Route("/readyz", readyz), *routes],
    )
    config = uvicorn.Config(
        Front(app, routes),
        host=host,
        port=port,
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
    return _Server(config)
