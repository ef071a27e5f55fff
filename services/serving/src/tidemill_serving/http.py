"""Open Inference Protocol v2 over HTTP, on the same models."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from tidemill_serving.domain import protocol
from tidemill_serving.domain.protocol import BadRequest
from tidemill_serving.loading import Loaded
from tidemill_serving.models import Models
from tidemill_serving.settings import ServingGroup
from tidemill_shared.bus import Bus
from tidemill_shared.log import logger
from tidemill_shared.pipelines import Pipelines

log = logger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]
_LARGE_BODY_BYTES = 32 * 1024
"""From here on a request is worth a thread, so that the streams and health checks go on."""


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these alone
    return _json({"error": error.detail}, error.status_code)


async def _on_bad_request(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


class Protocol:
    """The protocol's endpoints."""

    def __init__(self, models: Models, bus: Bus, pipelines: Pipelines, settings: ServingGroup) -> None:
        self._models = models
        self._bus = bus
        self._pipelines = pipelines
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        """Everything below ``/v2``, where every error has the protocol's body."""
        table: list[tuple[str, Endpoint, str]] = [
            ("/health/live", self.live, "GET"),
            ("/health/ready", self.ready, "GET"),
        ]
        for model in ("/models/{name}", "/models/{name}/versions/{version}"):
            table += [
                (model, self.metadata, "GET"),
                (f"{model}/ready", self.model_ready, "GET"),
                (f"{model}/infer", self.infer, "POST"),
            ]
        below = Starlette(
            routes=[Route(path, endpoint, methods=[method]) for path, endpoint, method in table],
            exception_handlers={HTTPException: _on_http_error, BadRequest: _on_bad_request},
        )
        # The protocol's root has no slash at its end, which a mount alone would insist on.
        return [Route("/v2", self.server), Mount("/v2", app=below)]

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
        loaded = self._models.get(name, wanted)
        if loaded:
            return loaded
        if name not in self._pipelines.names():
            raise HTTPException(404, f"there is no model {name!r}")
        versions = self._models.versions(name)
        if not versions:
            raise HTTPException(503, self._models.problem(name) or f"no model of {name!r} has been promoted yet")
        raise HTTPException(404, f"version {wanted!r} of {name!r} is not loaded; {', '.join(versions)} is")

    async def metadata(self, request: Request) -> Response:
        """Model metadata."""
        name = request.path_params["name"]
        return _json(protocol.metadata(name, self._loaded(request).model, self._models.versions(name)))

    async def model_ready(self, request: Request) -> Response:
        """Whether the newest promotion is what answers."""
        loaded = self._loaded(request)
        problem = self._models.problem(request.path_params["name"])
        if problem:
            return _json({"error": problem}, 503)
        return _json({"name": request.path_params["name"], "ready": True, "parameters": {"version": loaded.version}})

    async def infer(self, request: Request) -> Response:
        """Inference."""
        loaded = self._loaded(request)
        body = await self._body(request)
        if len(body) < _LARGE_BODY_BYTES:
            return self._answer(request.path_params["name"], loaded, body)
        return await asyncio.to_thread(self._answer, request.path_params["name"], loaded, body)

    def _answer(self, name: str, loaded: Loaded, body: bytes) -> Response:
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
        rows = protocol.rows_of(asked, loaded.model.layout, self._settings.max_rows)
        inputs = protocol.inputs(rows, loaded.model.layout)
        try:
            answers = loaded.model.predict(inputs)
        except Exception as error:
            # ONNX Runtime's message may quote the rows, so only its kind is told.
            log.error("the model failed", pipeline=name, kind=type(error).__name__, rows=len(inputs))
            raise HTTPException(500, "the model could not answer these rows") from None
        if None in answers.values:
            raise HTTPException(500, f"row {answers.values.index(None)}: the model gave no finite answer")
        answer: dict[str, Any] = {
            "model_name": name,
            "model_version": loaded.version,
            "parameters": {"model_version": loaded.version, "dataset_version": loaded.dataset_version},
            "outputs": protocol.chosen(protocol.outputs(loaded.model, answers), asked),
        }
        if isinstance(asked.get("id"), str):
            answer["id"] = asked["id"]
        return _json(answer)

    async def _body(self, request: Request) -> bytes:
        if "inference-header-content-length" in request.headers:
            raise BadRequest("binary tensor data is not supported: send JSON")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._settings.max_body_bytes:
                raise HTTPException(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        return bytes(body)
