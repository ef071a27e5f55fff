"""``POST …/explain``: contributions to predictions, one request at a time, beside the hot path."""

import asyncio
import time
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.package import PackageManifest, Reference, ReferenceColumn
from tidemill_serving.domain import protocol
from tidemill_serving.domain.background import Spread, background
from tidemill_serving.domain.cells import alone
from tidemill_serving.domain.features import Layout, Matrices
from tidemill_serving.domain.shapley import EXACT, Contributions, explain
from tidemill_serving.domain.tensor import BadRequest
from tidemill_serving.inference import Find
from tidemill_serving.loading import Loaded
from tidemill_serving.settings import ServingGroup
from tidemill_shared.errors import Poison, Retryable
from tidemill_shared.log import logger
from tidemill_shared.store import Store
from tidemill_shared.telemetry import histogram

log = logger(__name__)
_BACKGROUND_ROWS = 32
_PAIRS, _MOST_PAIRS = 4, 64
_WAITING = 8
"""Requests that may wait for their turn; further ones are told to come again."""
_KEPT = 16
"""Backgrounds kept, a few kB each."""


class Explaining:
    """The endpoint."""

    def __init__(self, find: Find, store: Store, settings: ServingGroup) -> None:
        self._find = find
        self._store = store
        self._settings = settings
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._backgrounds: dict[ArtifactRef, Matrices] = {}

    async def answer(self, request: Request) -> Response:
        """Answer one request. Raises HTTPException."""
        name = request.path_params["name"]
        loaded = await self._find(name, request.path_params.get("version"))
        asked, rows, pairs = self._read(await request.body(), loaded.model.layout)
        if self._waiting >= _WAITING:
            raise HTTPException(429, "too many explanations are waiting: come again later", {"retry-after": "1"})
        self._waiting += 1
        started = time.perf_counter()
        try:
            async with self._turn:
                base = await self._background(loaded)
                found = await asyncio.to_thread(_explain, loaded, rows, base, pairs)
        except HTTPException:
            raise
        except Exception as error:
            # ONNX Runtime's message may quote the rows, so only its kind is told.
            log.error("the model failed", pipeline=name, kind=type(error).__name__, rows=len(rows))
            raise HTTPException(500, "the model could not answer these rows") from None
        finally:
            self._waiting -= 1
        histogram("tidemill.serving.explain.duration").record(time.perf_counter() - started, {"pipeline": name})
        answer = _answer(name, loaded, found, pairs)
        if asked.get("id") is not None:
            answer["id"] = asked["id"]
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    def _read(self, body: bytes, layout: Layout) -> tuple[dict[str, Any], Matrices, int]:
        if len(body) > self._settings.max_body_bytes:
            raise HTTPException(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        try:
            asked = orjson.loads(body)
            rows = alone(protocol.read(asked, layout, self._settings.explain_rows), layout)
            return asked, rows, _pairs(asked)
        except (BadRequest, orjson.JSONDecodeError) as error:
            raise HTTPException(400, str(error).encode(errors="replace").decode()) from None

    async def _background(self, loaded: Loaded) -> Matrices:
        found = self._backgrounds.get(loaded.manifest)
        if found is None:
            try:
                manifest = await self._store.document(loaded.manifest, PackageManifest)
                reference = await self._store.document(manifest.files["reference.json"], Reference)
            except KeyError:
                raise HTTPException(404, "this package has no reference to explain against") from None
            except (Retryable, Poison) as error:
                raise HTTPException(503, f"the package's reference cannot be read: {error}") from None
            found = _drawn(reference, loaded.model.layout)
            while len(self._backgrounds) >= _KEPT:
                self._backgrounds.pop(next(iter(self._backgrounds)))
            self._backgrounds[loaded.manifest] = found
        return found


def _pairs(asked: dict[str, Any]) -> int:
    pairs = (asked.get("parameters") or {}).get("pairs", _PAIRS)
    if type(pairs) is not int or not 1 <= pairs <= _MOST_PAIRS:
        raise BadRequest(f"parameters.pairs: an integer from 1 to {_MOST_PAIRS} is expected")
    return pairs


def _drawn(reference: Reference, layout: Layout) -> Matrices:
    columns = {column.name: _spread(column) for column in reference.columns}
    absent = Spread(missing=1)
    return background(
        [columns.get(name, absent) for name in layout.numeric],
        [columns.get(name, absent) for name in layout.categorical],
        _BACKGROUND_ROWS,
    )


def _spread(column: ReferenceColumn) -> Spread:
    shape = column.histogram
    return Spread(
        missing=column.missing,
        edges=shape.edges if shape else (),
        counts=shape.counts if shape else (),
        lowest=column.minimum,
        highest=column.maximum,
        categories=tuple(column.categories.items()),
    )


def _explain(loaded: Loaded, rows: Matrices, base: Matrices, pairs: int) -> list[Contributions]:
    return [explain(loaded.model, rows[i : i + 1], base, pairs) for i in range(len(rows))]


def _answer(name: str, loaded: Loaded, found: list[Contributions], pairs: int) -> dict[str, Any]:
    features = [*loaded.model.layout.numeric, *loaded.model.layout.categorical]
    rows, k = len(found), len(features)
    exact = k <= EXACT

    def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": shape, "data": data}

    return {
        "model_name": name,
        "model_version": loaded.version,
        "parameters": {
            "method": "exact" if exact else "sampled",
            "background_rows": _BACKGROUND_ROWS,
            "evaluated_rows": sum(each.evaluated for each in found),
        }
        | ({} if exact else {"pairs": pairs}),
        "outputs": [
            tensor("features", "BYTES", [k], features),
            tensor("explained", "BYTES", [rows], ["value" if each.of is None else str(each.of) for each in found]),
            tensor("output", "FP64", [rows], [each.output for each in found]),
            tensor("base", "FP64", [rows], [each.base for each in found]),
            tensor("contributions", "FP64", [rows, k], [v for each in found for v in each.values.tolist()]),
            tensor("standard_errors", "FP64", [rows, k], [v for each in found for v in each.errors.tolist()]),
        ],
    }
