"""Type name to class, and the one way to parse bytes of unknown type."""

from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from tidemill_contracts import events
from tidemill_contracts.envelope import MAX_EVENT_BYTES, Event

EVENTS: dict[str, type[Event[Any]]] = {
    cls.type_name(): cls
    for cls in vars(events).values()
    if isinstance(cls, type) and issubclass(cls, Event) and isinstance(cls.model_fields["type"].default, str)
}
"""Every event class by its wire name."""

EventT = TypeVar("EventT", bound=Event[Any])


class InvalidEvent(ValueError):
    """Bytes that are not one of our events. ``code`` names the reason a dead letter will carry."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse(data: bytes) -> Event[Any]:
    """The event in ``data``. Raises InvalidEvent: too_large, undecodable, unknown_type or invalid."""
    if len(data) > MAX_EVENT_BYTES:
        raise InvalidEvent("too_large", f"{len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    try:
        raw = from_json(data)
    except ValueError as error:
        raise InvalidEvent("undecodable", f"not JSON: {error}") from None
    type_ = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(type_, str):
        raise InvalidEvent("invalid", "not a CloudEvent: a JSON object with a string `type` is expected")
    cls = EVENTS.get(type_)
    if cls is None:
        raise InvalidEvent("unknown_type", f"no event of type {type_!r} is known here")
    return parse_as(cls, data)


def parse_as(cls: type[EventT], data: bytes) -> EventT:
    """The event in ``data``, which must be a ``cls``. Raises InvalidEvent."""
    if len(data) > MAX_EVENT_BYTES:
        raise InvalidEvent("too_large", f"{len(data)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    try:
        return cls.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        code = "undecodable" if first["type"] == "json_invalid" else "invalid"
        where = ".".join(str(part) for part in first["loc"]) or "event"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InvalidEvent(code, f"{where}: {first['msg']}{more}") from None
