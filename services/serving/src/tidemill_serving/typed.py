"""The fastest reading of a request: straight into the cells that a model reads, for what is plainly right."""

from collections.abc import Callable
from typing import Annotated, Literal, Protocol, cast

import msgspec

from tidemill_contracts.envelope import MAX_EVENT_BYTES
from tidemill_serving.decode import ID, TIME, Request, addressed, exists, read
from tidemill_serving.domain.features import Cells, Layout

_Short = Annotated[str, msgspec.Meta(max_length=128)] | None


class _Envelope(msgspec.Struct, gc=False):
    """What the contracts would certainly take, but for the checks in ``read``; the payload comes with the layout."""

    id: str
    type: Literal["prediction.requested.v1"]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    subject: str
    time: str
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: _Short = None
    causationid: _Short = None
    traceparent: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class _Data(Protocol):
    features: msgspec.Struct
    expires_at: str | None


class _Event(Protocol):
    id: str
    subject: str
    time: str
    correlationid: str | None
    traceparent: str | None
    data: _Data


class Reader:
    """Reads requests for one model. The columns become fields of a compiled structure: no dictionary a row."""

    def __init__(self, layout: Layout) -> None:
        columns = (*layout.numeric, *layout.categorical)
        kinds = [float | None] * len(layout.numeric) + [str | None] * len(layout.categorical)
        fields = [f"c{i}" for i in range(len(columns))]
        cells = msgspec.defstruct(
            "Cells", list(zip(fields, kinds, strict=True)), rename=dict(zip(fields, columns, strict=True)), gc=False
        )
        data = msgspec.defstruct("Data", [("features", cells), ("expires_at", str | None, None)], gc=False)
        envelope = msgspec.defstruct("Envelope", [("data", data)], bases=(_Envelope,), kw_only=True, gc=False)
        self._decode = cast(Callable[[bytes], _Event], msgspec.json.Decoder(envelope).decode)

    def read(self, body: bytes, pipeline: str) -> Request:
        """As ``decode.read``, which also takes over whatever is not plainly right. Raises InvalidEvent."""
        if len(body) > MAX_EVENT_BYTES:
            return read(body, pipeline)
        try:
            event = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return read(body, pipeline)
        if (
            ID.fullmatch(event.id) is None
            or not addressed(event.subject, pipeline)
            or TIME.fullmatch(event.time) is None
            or not exists(event.time)
            or event.data.expires_at is not None  # the contracts read times
        ):
            return read(body, pipeline)
        cells: Cells = msgspec.structs.astuple(event.data.features)
        return Request(event.id, event.subject, event.time, event.correlationid, event.traceparent, cells)
