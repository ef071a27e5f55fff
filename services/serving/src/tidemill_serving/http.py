"""Open Inference Protocol v2 over HTTP, on the same models."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidemill_serving.domain import protocol
from tidemill_serving.domain.protocol import BadRequest
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_serving.settings import ServingGroup
from tidemill_shared.bus import Bus

Endpoint = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except BadRequest as error:
            return _json({"error": str(error)}, 400)
        except _Refused as error:
            return _json({"error": str(error)}, error.status)

    return call


class Protocol:
    """The protocol's endpoints."""

    def __init__(self, models: Models, bus: Bus, settings: ServingGroup) -> None:
        self._models = models
        self._bus = bus
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        """Everything below ``/v2``."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/v2", self.server, "GET"),
            ("/v2/health/live", self.live, "GET"),
            ("/v2/health/ready", self.ready, "GET"),
        ]
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            table += [
                (model, self.metadata, "GET"),
                (f"{model}/ready", self.model_ready, "GET"),
                (f"{model}/infer", self.infer, "POST"),
            ]
        return [Route(path, _guarded(endpoint), methods=[method]) for path, endpoint, method in table]

    async def server(self, _: Request) -> Response:
        """Server metadata."""
        return _json({"name": "tidemill", "version": version("tidemill-serving"), "extensions": []})

    async def live(self, _: Request) -> Response:
        """The process turns."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """It consumes."""
        ready = self._bus.failed() is None
        return _json({"ready": ready}, 200 if ready else 503)

    def _loaded(self, request: Request) -> Loaded:
        name, wanted = request.path_params["name"], request.path_params.get("version")
        loaded = self._models.get(name)
        if loaded is None:
            raise _Refused(404, f"no model of the pipeline {name!r} is loaded")
        if wanted and wanted not in (loaded.version, str(loaded.sequence)):
            raise _Refused(404, f"version {wanted!r} of {name!r} is not loaded; {loaded.version} is")
        return loaded

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        loaded = self._loaded(request)
        return _json(protocol.metadata(request.path_params["name"], loaded.model, [loaded.version]))

    async def model_ready(self, request: Request) -> Response:
        """Whether the newest promotion is what answers."""
        self._loaded(request)
        problem = self._models.problem(request.path_params["name"])
        return _json({"ready": problem is None, "error": problem}, 200 if problem is None else 503)

    async def infer(self, request: Request) -> Response:
        """Inference."""
        loaded = self._loaded(request)
        body = await self._body(request)
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
        rows = protocol.rows_of(asked, loaded.model.layout, self._settings.max_rows)
        inputs = protocol.inputs(rows, loaded.model.layout)
        answers = await asyncio.to_thread(loaded.model.predict, inputs)
        answer: dict[str, Any] = {
            "model_name": request.path_params["name"],
            "model_version": loaded.version,
            "parameters": {"dataset_version": loaded.dataset_version},
            "outputs": protocol.outputs(loaded.model, answers),
        }
        if isinstance(asked.get("id"), str):
            answer["id"] = asked["id"]
        return _json(answer)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._settings.max_body_bytes:
                raise _Refused(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        return bytes(body)
