"""The fastest reading of a request: straight into the cells that a model reads, for what is plainly right."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol, cast

import msgspec

from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_contracts.events import PredictionRequested
from tidemill_serving.decode import Head, Request, addressed, are_ids, are_times, read
from tidemill_serving.domain.features import Cells, Layout

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are not plainly right."""
_cells: Callable[[msgspec.Struct], Cells] = msgspec.structs.astuple
_Short = Annotated[str, msgspec.Meta(max_length=128)] | None


class _Envelope(msgspec.Struct, gc=False, kw_only=True):
    """What the contracts would certainly take, but for the checks in ``plain``; type and payload come later."""

    id: str
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    subject: str
    time: str
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: _Short = None
    causationid: _Short = None
    traceparent: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class Typed(Head, Protocol):
    """An event as decoded; the payload's fields are those the decoder was made for."""

    data: Any


def fields_of(layout: Layout, numeric: Any, categorical: Any, *, surplus: bool) -> type[msgspec.Struct]:
    """A structure with one field a column, in the layout's order, of the one type or the other.

    ``surplus``: whether columns that the model does not read may be passed over, unseen.
    """
    columns = (*layout.numeric, *layout.categorical)
    kinds = [numeric] * len(layout.numeric) + [categorical] * len(layout.categorical)
    names = [f"c{i}" for i in range(len(columns))]
    renamed = dict(zip(names, columns, strict=True))
    members = list(zip(names, kinds, strict=True))
    return msgspec.defstruct("Columns", members, rename=renamed, forbid_unknown_fields=not surplus, gc=False)


def decoder(type_: str, data: type[msgspec.Struct]) -> Callable[[bytes], Typed]:
    """Decodes events of this type and payload. Raises one of ``UNREADABLE``."""
    members = [("type", Literal[type_]), ("data", data)]
    envelope = msgspec.defstruct("Event", members, bases=(_Envelope,), gc=False, kw_only=True)
    return cast(Callable[[bytes], Typed], msgspec.json.Decoder(envelope).decode)


def plain(events: Sequence[Typed], pipeline: str) -> bool:
    """Whether the contracts would certainly take all of the decoded envelopes as they are."""
    return (
        are_ids([event.id for event in events])
        and all(addressed(subject, pipeline) for subject in {event.subject for event in events})
        and are_times([event.time for event in events])
    )


class Reader:
    """Reads requests for one model. The columns become fields of a compiled structure: no dictionary a row."""

    def __init__(self, layout: Layout) -> None:
        cells = fields_of(layout, float | None, str | None, surplus=True)
        data = msgspec.defstruct("Data", [("features", cells), ("expires_at", str | None, None)], gc=False)
        self._decode = decoder(PredictionRequested.type_name(), data)

    def read_all(self, bodies: Sequence[bytes], pipeline: str) -> tuple[list[Typed], list[Cells]] | None:
        """The requests, without their payloads, and the cells of each, when all of them are plainly right; else None:
        then each is read by itself."""
        if not bodies or max(map(len, bodies)) > MAX_EVENT_BYTES:
            return None
        try:
            events = list(map(self._decode, bodies))
        except UNREADABLE:
            return None
        payloads = [event.data for event in events]
        if any(data.expires_at is not None for data in payloads) or not plain(events, pipeline):
            return None  # the contracts read times
        for event in events:
            event.data = None  # once the cells are in a matrix, nothing holds them any more
        return events, [_cells(data.features) for data in payloads]

    def read(self, body: bytes, pipeline: str) -> Request:
        """As ``decode.read``, which also takes over whatever is not plainly right. Raises InvalidEvent."""
        found = self.read_all([body], pipeline)
        if not found:
            return read(body, pipeline)
        (event,), (cells,) = found
        return Request(event.id, event.subject, event.time, event.correlationid, event.traceparent, cells)
