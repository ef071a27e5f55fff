"""Tables of requests: many rows as columns in one event."""

from typing import Any, NamedTuple

import msgspec

from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_contracts.events import PredictionsRequested
from tidemill_contracts.prediction import RequestedPredictions
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_serving.decode import Request, are_ids
from tidemill_serving.domain.features import Layout, Matrices, Refusal, column_matrices, matrices
from tidemill_serving.typed import UNREADABLE, Typed, decoder, fields_of, plain

_RESERVE = 1024
"""Bytes an answer that refuses every row may need beyond the request's."""
_ROWS: int = next(m.max_length for m in RequestedPredictions.model_fields["ids"].metadata if hasattr(m, "max_length"))


class Table(NamedTuple):
    """A table as a model takes it."""

    request: Request
    """Its envelope; the features are the matrices."""
    ids: list[str]
    """One prediction id a row."""
    inputs: Matrices | None
    """Of the rows that are fine; None where there is no model to read them for."""
    refusals: list[Refusal | None]
    """One a row."""


class TableReader:
    """Reads tables for one model, or without one their ids."""

    def __init__(self, layout: Layout | None) -> None:
        self._layout = layout
        if layout:
            columns = fields_of(layout, list[float | None], list[str | None], surplus=False)
            members: list[Any] = [("ids", list[str]), ("columns", columns), ("expires_at", str | None, None)]
            self._decode = decoder(PredictionsRequested.type_name(), msgspec.defstruct("Data", members, gc=False))

    def read(self, body: bytes, pipeline: str) -> Table:
        """The table in an entry of ``pipeline``'s stream. Raises InvalidEvent: no row of it could be answered."""
        if len(body) > MAX_EVENT_BYTES - _RESERVE:
            raise InvalidEvent("too_large", f"{len(body)} bytes; a table may have {MAX_EVENT_BYTES - _RESERVE}")
        if self._layout:
            try:
                event = self._decode(body)
            except UNREADABLE:
                return self._carefully(body, pipeline)
            return self._at_once(event, pipeline, self._layout) or self._carefully(body, pipeline)
        return self._carefully(body, pipeline)

    def _at_once(self, event: Typed, pipeline: str, layout: Layout) -> Table | None:
        data, ids = event.data, event.data.ids
        if (
            not plain([event], pipeline)
            or data.expires_at is not None
            or not 0 < len(ids) <= _ROWS
            or len(set(ids)) != len(ids)
            or not are_ids(ids)
        ):
            return None
        columns: tuple[Any, ...] = msgspec.structs.astuple(data.columns)
        if set(map(len, columns)) != {len(ids)}:
            return None
        inputs = column_matrices(columns, layout)
        if inputs is None:
            return None
        request = Request(event.id, event.subject, event.time, event.correlationid, event.traceparent, None)
        return Table(request, ids, inputs, [None] * len(ids))

    def _carefully(self, body: bytes, pipeline: str) -> Table:
        event = parse_as(PredictionsRequested, body)
        if event.pipeline != pipeline:
            raise InvalidEvent("invalid", f"subject {event.subject!r} in the stream of {pipeline!r}")
        request = Request(
            event.id,
            event.subject,
            event.time.isoformat(),
            event.correlationid,
            event.traceparent,
            None,
            event.data.expires_at,
        )
        ids = list(event.data.ids)
        if self._layout is None:
            return Table(request, ids, None, [None] * len(ids))
        inputs, refusals = matrices([row.features for _, row in event.data.rows()], self._layout)
        return Table(request, ids, inputs, refusals)
