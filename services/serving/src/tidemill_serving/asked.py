"""Requests over HTTP that further models answer once more, in a thread, when nobody waits for them any more."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from tidemill_contracts.names import EVENT_ID_PATTERN
from tidemill_serving import encode
from tidemill_serving.domain import protocol
from tidemill_serving.domain.cells import alone
from tidemill_serving.domain.model import Scalar
from tidemill_serving.domain.tensor import BadRequest
from tidemill_serving.loading import Loaded
from tidemill_serving.tally import Tally, clock

T = TypeVar("T")
_ITEMS = 4_096
_BYTES = 16 * 1024**2
_ID = re.compile(EVENT_ID_PATTERN)


class Kept(Generic[T]):
    """What was asked since it was looked at, as far as there is room; what comes beyond that is left out."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._left = (_ITEMS, _BYTES)

    def put(self, item: T, count: int, size: int) -> None:
        """``count`` requests of ``size`` bytes together."""
        requests, room = self._left
        if requests > 0 and room >= size:
            self._items.append(item)
            self._left = (requests - count, room - size)

    def taken(self) -> list[T]:
        """All of it, which is thereby forgotten."""
        items, self._items, self._left = self._items, [], (_ITEMS, _BYTES)
        return items


class Outcome(NamedTuple):
    """What a model makes of a request: a value for each row, or the reason why there are none."""

    id: str | None
    values: Sequence[Scalar]
    error: str | None


def scored(body: bytes, loaded: Loaded, max_rows: int, tally: Tally) -> Outcome:
    """One model's answer to a body of ``infer``, counted. Never raises: a model on trial may do anything."""
    started = clock()
    id_: Any = None
    values: Sequence[Scalar] = ()
    error = None
    try:
        asked = orjson.loads(body)
        id_ = asked.get("id") if isinstance(asked, dict) else None
        rows = protocol.read(asked, loaded.model.layout, max_rows)
        protocol.wanted(asked, loaded.model)
        values = loaded.model.predict(alone(rows, loaded.model.layout)).values
        if None in values:
            values, error = (), "model_failed"
    except (BadRequest, orjson.JSONDecodeError):
        error = "bad_request"
    except Exception:
        error = "model_failed"
    tally.add(values, 0 if error is None else 1, clock() - started, "http")
    return Outcome(id_ if isinstance(id_, str) else None, values, error)


def shadowed(pipeline: str, outcome: Outcome, version: str) -> list[bytes]:
    """``prediction.shadowed`` for each row of a request that has an id; of several rows each is ``id:number``."""
    id_, values, error = outcome
    if id_ is None or not _ID.fullmatch(f"{id_}:{len(values)}"):
        return []
    envelope = {
        "specversion": "1.0",
        "source": "urn:tidemill:serving",
        "subject": pipeline,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "correlationid": id_,
        "causationid": id_,
    }
    if len(values) <= 1:
        return [encode.shadowed(envelope, id_, values[0] if values else None, error, version)]
    return [encode.shadowed(envelope, f"{id_}:{row}", value, None, version) for row, value in enumerate(values)]
