"""Entries of a prediction stream into requests: a fast reading of what is plainly right, the contracts for the rest."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec
import orjson

from tidemill_contracts.document import Document
from tidemill_contracts.envelope import MAX_EVENT_BYTES, Event
from tidemill_contracts.events import PredictionRequested
from tidemill_contracts.names import EVENT_ID_PATTERN
from tidemill_contracts.registry import InvalidEvent, parse_as

_TYPE = PredictionRequested.type_name()
ID = re.compile(EVENT_ID_PATTERN.removesuffix("$"))
_IDS = re.compile(rf"(?:{ID.pattern.removeprefix('^')}\n)*+")
_SUBJECT_TAIL = re.compile(r"[0-9a-zA-Z._-]{1,128}")
# The plain form of RFC 3339; the contracts take more, and what they take beyond this goes to them.
TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)")

# Of those the ones whose day exists whatever the month and the year.
_CERTAIN_TIMES = re.compile(
    r"(?:(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\n)*+"
)


class Head(Protocol):
    """What an answer needs to know of its request."""

    @property
    def id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def time(self) -> str: ...
    @property
    def correlationid(self) -> str | None: ...
    @property
    def traceparent(self) -> str | None: ...


class Request(msgspec.Struct, frozen=True, gc=False):
    """``features`` is whatever JSON value the producer sent, or a tuple of the cells that the model reads."""

    id: str
    subject: str
    time: str
    correlationid: str | None
    traceparent: str | None
    features: Any
    expires_at: datetime | None = None


class _Envelope(Event[Document]):
    """A request whose payload has not been looked at."""

    type: Literal["prediction.requested.v1"] = "prediction.requested.v1"


def read(body: bytes, pipeline: str) -> Request:
    """The request in an entry of ``pipeline``'s stream.

    Raises InvalidEvent when nobody could be answered: no JSON, no envelope, too large, another pipeline's. A sound
    envelope around a payload that is not sound is a request all the same, to be refused by name.
    """
    if len(body) <= MAX_EVENT_BYTES:
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            event = None  # NaN, for one, is no JSON here but is for the contracts
        if type(event) is dict and _plain(event, pipeline):
            return Request(
                event["id"],
                event["subject"],
                event["time"],
                event.get("correlationid"),
                event.get("traceparent"),
                event["data"]["features"],
            )
    return _carefully(body, pipeline)


def are_times(times: Sequence[str]) -> bool:
    """Whether all of them are plain times of days that exist."""
    if _together(_CERTAIN_TIMES, times):
        return True
    return all(TIME.fullmatch(time) is not None and exists(time) for time in times)


def are_ids(ids: Sequence[str]) -> bool:
    """Whether all of them may be ids of events."""
    return _together(_IDS, ids)


def _together(lines: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Whether each text is a line of such lines: one look at all of them takes a third of a look at each."""
    joined = "\n".join(texts) + "\n"
    return joined.count("\n") == len(texts) and lines.fullmatch(joined) is not None


def _plain(event: dict[str, Any], pipeline: str) -> bool:
    """Whether the contracts would certainly take the envelope as it is."""
    get = event.get
    id_, subject, time, source, data = get("id"), get("subject"), get("time"), get("source"), get("data")
    return (
        get("type") == _TYPE
        and get("specversion", "1.0") == "1.0"
        and type(id_) is str
        and ID.fullmatch(id_) is not None
        and addressed(subject, pipeline)
        and type(time) is str
        and TIME.fullmatch(time) is not None
        and exists(time)
        and type(source) is str
        and 1 <= len(source) <= 256
        and get("datacontenttype", "application/json") == "application/json"
        and _short(get("correlationid"), 128)
        and _short(get("causationid"), 128)
        and _short(get("traceparent"), 64)
        and type(data) is dict
        and type(data.get("features")) is dict
        and data.get("expires_at") is None  # the contracts read times
    )


def addressed(subject: Any, pipeline: str) -> bool:
    if subject == pipeline:
        return True
    if type(subject) is not str or not subject.startswith(f"{pipeline}/"):
        return False
    return _SUBJECT_TAIL.fullmatch(subject, len(pipeline) + 1) is not None


def _short(value: Any, limit: int) -> bool:
    return value is None or (type(value) is str and len(value) <= limit)


def exists(time: str) -> bool:
    try:
        datetime.fromisoformat(time)
    except ValueError:  # the 30th of February
        return False
    return True


def _carefully(body: bytes, pipeline: str) -> Request:
    event: Event[Any]
    expires_at: datetime | None = None
    try:
        event = parse_as(PredictionRequested, body)
        features: Any = event.data.features
        expires_at = event.data.expires_at
    except InvalidEvent as refused:
        if refused.code == "undecodable":
            raise
        try:
            event = parse_as(_Envelope, body)
        except InvalidEvent:
            raise refused from None
        features = json.loads(body)["data"].get("features")
    if event.pipeline != pipeline:
        raise InvalidEvent("invalid", f"subject {event.subject!r} in the stream of {pipeline!r}")
    return Request(
        event.id, event.subject, event.time.isoformat(), event.correlationid, event.traceparent, features, expires_at
    )
