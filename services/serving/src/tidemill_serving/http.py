"""Open Inference Protocol v2 over HTTP, on the same models."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from tidemill_serving.calls import Calls
from tidemill_serving.domain import protocol
from tidemill_serving.explaining import Explaining
from tidemill_serving.inference import Beside, Inference
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_serving.openapi import document
from tidemill_serving.settings import ServingGroup
from tidemill_shared.bus import Bus
from tidemill_shared.direct import Direct
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.store import Store

_NONE_YET = "no model has been promoted for this pipeline yet"
Endpoint = Callable[[Request], Awaitable[Response]]


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these alone
    answer = _json({"error": error.detail}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


class Protocol:
    """The protocol's endpoints."""

    def __init__(
        self,
        models: Models,
        beside: Beside,
        bus: Bus,
        pipelines: Pipelines,
        store: Store,
        settings: ServingGroup,
        calls: Calls | None = None,
    ) -> None:
        self._models = models
        self._beside = beside
        self._store = store
        self._bus = bus
        self._pipelines = pipelines
        self._settings = settings
        self._calls = calls

    def routes(self) -> list[BaseRoute]:
        """Everything below ``/v2``, where every error has the protocol's body."""
        model = "/models/{name}"
        table: list[tuple[str, Endpoint, str]] = [
            ("/health/live", self.live, "GET"),
            ("/health/ready", self.ready, "GET"),
            ("/openapi.json", self.openapi, "GET"),
            ("/repository/index", self.index, "POST"),
        ]
        explain = Explaining(self.find, self._store, self._settings)
        for path in (model, f"{model}/versions/{{version}}"):
            table += [(path, self.metadata, "GET"), (f"{path}/ready", self.model_ready, "GET")]
            table.append((f"{path}/explain", explain.answer, "POST"))
        below = Starlette(
            routes=[Route(path, endpoint, methods=[method]) for path, endpoint, method in table],
            exception_handlers={HTTPException: _on_http_error},
        )
        infer = Inference(self.find, self._beside, self._settings, self._calls)
        # The protocol's root has no slash at its end, which a mount alone would insist on.
        return [
            Direct(f"/v2{model}/infer", infer),
            Direct(f"/v2{model}/versions/{{version}}/infer", infer),
            Route("/v2", self.server),
            Mount("/v2", app=below),
        ]

    async def server(self, _: Request) -> Response:
        """Server metadata."""
        return _json(
            {"name": "tidemill", "version": version("tidemill-serving"), "extensions": ["model_repository(index)"]}
        )

    async def live(self, _: Request) -> Response:
        """The process turns."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """It consumes."""
        ready = self._bus.failed() is None
        return _json({"ready": ready}, 200 if ready else 503)

    async def openapi(self, _: Request) -> Response:
        """This interface's document."""
        return _json(document(version("tidemill-serving")))

    async def index(self, _: Request) -> Response:
        """Every model and version at hand (the index of the protocol's model repository extension)."""
        found = []
        for name in self._pipelines.names():
            problem = self._models.problem(name) or ""
            versions = self._models.versions(name)
            found += [{"name": name, "version": v, "state": "READY", "reason": problem} for v in versions]
            if not versions:
                found.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": problem or _NONE_YET})
        return _json(found)

    async def find(self, name: str, wanted: str | None) -> Loaded:
        """The loaded model. Raises HTTPException: 404, or 503 while a declared pipeline has none."""
        loaded = await self._models.get(name, wanted)
        if loaded:
            return loaded
        if name not in self._pipelines.names():
            raise HTTPException(404, f"there is no model {name!r}")
        versions = self._models.versions(name)
        if not versions:
            raise HTTPException(503, self._models.problem(name) or _NONE_YET)
        raise HTTPException(404, f"version {wanted!r} of {name!r} is not loaded; {', '.join(versions)} is")

    async def _of(self, request: Request) -> Loaded:
        return await self.find(request.path_params["name"], request.path_params.get("version"))

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        name = request.path_params["name"]
        return _json(protocol.metadata(name, (await self._of(request)).model, self._models.versions(name)))

    async def model_ready(self, request: Request) -> Response:
        """Whether the newest promotion is what answers."""
        loaded = await self._of(request)
        problem = self._models.problem(request.path_params["name"])
        if problem:
            return _json({"error": problem}, 503)
        return _json({"name": request.path_params["name"], "ready": True, "parameters": {"version": loaded.version}})
