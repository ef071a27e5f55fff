"""New rows over HTTP: accepted (202) once they lie in the object store, with or without Redis."""

import asyncio
import hashlib
import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tidemill_contracts.artifacts import inbox_key, outcome_key, raw_key
from tidemill_contracts.dataset import ArrivedData, Outcome
from tidemill_contracts.events import DataArrived
from tidemill_contracts.names import EVENT_ID_PATTERN, NAME_PATTERN
from tidemill_contracts.streams import stream_key
from tidemill_ingestion.settings import IngestionGroup
from tidemill_shared.errors import Overloaded, Poison, StoreUnavailable
from tidemill_shared.inbox import accept
from tidemill_shared.log import logger
from tidemill_shared.service import Service

log = logger(__name__)
_SUFFIXES = {
    "text/csv": ".csv",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
}


class _Refused(Exception):
    """An answer other than 202."""

    def __init__(self, status: int, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    def answer(self) -> Response:
        headers = {"retry-after": str(math.ceil(self.retry_after_seconds))} if self.retry_after_seconds else None
        return JSONResponse({"error": str(self)}, self.status, headers)


class Receiving:
    """``POST /v1/pipelines/{pipeline}/data`` and ``GET /v1/arrivals/{event}``."""

    def __init__(self, service: Service, settings: IngestionGroup) -> None:
        self._store = service.store
        self._bus = service.bus
        self._pipelines = service.pipelines
        self._most = settings.max_uploads
        self._under_way = 0

    def routes(self) -> list[BaseRoute]:
        """For the service's door."""
        return [
            Route("/v1/pipelines/{pipeline}/data", self.receive, methods=["POST"]),
            Route("/v1/arrivals/{event}", self.arrival, methods=["GET"]),
        ]

    async def receive(self, request: Request) -> Response:
        """Take a file of rows. ``Idempotency-Key`` is the event's id: the same rows under it again change nothing.

        202 accepted · 404 no such pipeline · 413 too large · 415 unknown format · 422 the key is taken by other rows ·
        429 too many uploads at once · 503 Redis is nearly full or the store is away; the last two with ``Retry-After``.
        """
        if self._under_way >= self._most:
            return _Refused(429, f"{self._most} uploads are under way: come back soon", 1.0).answer()
        self._under_way += 1
        try:
            event = await self._received(request)
        except _Refused as refused:
            return refused.answer()
        except HTTPException as error:  # the body is longer than its header said
            return _Refused(error.status_code, error.detail).answer()
        except StoreUnavailable:
            return _Refused(503, "the object store does not answer: nothing was accepted", 5.0).answer()
        except ClientDisconnect:
            return _Refused(400, "the upload was cut off").answer()
        finally:
            self._under_way -= 1
        return JSONResponse({"event": event.id}, 202, {"location": f"/v1/arrivals/{event.id}"})

    async def arrival(self, request: Request) -> Response:
        """What became of accepted rows: 200 with the outcome, or null while there is none; 404 for an unknown id."""
        event_id = request.path_params["event"]
        if re.fullmatch(EVENT_ID_PATTERN, event_id) is None:
            return _Refused(404, "no such event was accepted").answer()
        try:
            outcome = await self._store.read_document(outcome_key(event_id), Outcome)
            if outcome is None and await self._store.stat(inbox_key(event_id)) is None:
                return _Refused(404, "no such event was accepted").answer()
        except StoreUnavailable:
            return _Refused(503, "the object store does not answer", 5.0).answer()
        return JSONResponse({"event": event_id, "outcome": outcome.model_dump(mode="json") if outcome else None})

    async def _received(self, request: Request) -> DataArrived:
        pipeline, event_id = request.path_params["pipeline"], request.headers.get("idempotency-key") or str(uuid4())
        if re.fullmatch(NAME_PATTERN, pipeline) is None or await self._pipelines.declared(pipeline) is None:
            raise _Refused(404, "no such pipeline is declared")
        if re.fullmatch(EVENT_ID_PATTERN, event_id) is None:
            raise _Refused(400, "Idempotency-Key: 1 to 128 letters, digits and ._:- are expected")
        suffix = _suffix(request)
        await self._room(pipeline)
        with TemporaryDirectory(prefix="tidemill-upload-") as folder:
            file = Path(folder) / "body"
            sha256, size = await _saved(request, file)
            if size == 0:
                raise _Refused(400, "the body is empty")
            key = raw_key(pipeline, sha256, suffix)
            if await self._store.stat(key) != size:
                await self._store.put_file(key, file)
        data = ArrivedData(uri=f"s3://{self._store.bucket}/{key}", sha256=sha256, size=size, note="over HTTP")
        event = DataArrived.root(data, subject=pipeline, source="urn:tidemill:http", id=event_id)
        try:
            event = await accept(self._store, event)
        except Poison as error:
            raise _Refused(422, str(error)) from None
        await self._publish(event)
        return event

    async def _room(self, pipeline: str) -> None:
        try:
            await self._bus.room.check(stream_key(self._bus.namespace, DataArrived.type_name()))
        except Overloaded as error:
            log.warning("upload refused", pipeline=pipeline, why=str(error))
            raise _Refused(503, str(error), error.retry_after_seconds) from None
        except RedisError:
            return  # what is accepted does not depend on Redis

    async def _publish(self, event: DataArrived) -> None:
        try:
            await self._bus.offer(event)
        except (Overloaded, RedisError) as error:
            log.warning("accepted, and left to the sweeper", event=event.id, why=str(error))


def _suffix(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = _SUFFIXES.get(kind)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if suffix is None:
        raise _Refused(415, f"Content-Type: one of {', '.join(_SUFFIXES)} is expected")
    if encoding not in ("identity", "gzip"):
        raise _Refused(415, "Content-Encoding: gzip or none is expected")
    return suffix + (".gz" if encoding == "gzip" else "")


async def _saved(request: Request, file: Path) -> tuple[str, int]:
    """The body in a file, in bounded memory; its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with file.open("wb") as out:
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
            await asyncio.to_thread(out.write, chunk)
    return digest.hexdigest(), size
