"""The event envelope: CloudEvents 1.0, structured JSON mode.

One stream entry is one event, in the single field ``__data__``. The three extensions carry lineage:
``correlationid`` (the root event of the whole story), ``causationid`` (the event that led to this one) and
``traceparent`` (W3C Trace Context).
"""

from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field

from tidemill_contracts.document import Document
from tidemill_contracts.names import EventId, Moment
from tidemill_contracts.streams import stream_key

FIELD = "__data__"
"""The one field of a stream entry (the name FastStream uses)."""

MAX_EVENT_BYTES = 64 * 1024
"""Larger events are refused: rows and artifacts live in object storage."""

_NAMESPACE = uuid5(NAMESPACE_URL, "urn:tidemill")

PayloadT = TypeVar("PayloadT", bound=Document)


def child_id(cause_id: str, type_: str, subject: str) -> str:
    """The id of an event caused by another: a function of its cause, so a repeated handler repeats the id."""
    return str(uuid5(uuid5(_NAMESPACE, cause_id), f"{type_} {subject}"))


def content_id(*parts: str) -> str:
    """An event id that is a function of content rather than of a cause."""
    return str(uuid5(_NAMESPACE, "\x00".join(parts)))


def _now() -> datetime:
    return datetime.now(UTC)


class Event(BaseModel, Generic[PayloadT]):
    """An event as it lies in a stream. Subclass it with a literal ``type`` and a concrete payload."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    # Who may publish and who consumes; the tables in the documentation are generated from these.
    publishers: ClassVar[tuple[str, ...]] = ()
    consumers: ClassVar[tuple[str, ...]] = ()
    plane: ClassVar[Literal["control", "data"]] = "control"

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    type: str
    source: str = Field(min_length=1, max_length=256)
    subject: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}(/[0-9a-zA-Z._-]{1,128})?$")
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: str | None = Field(default=None, max_length=128)
    causationid: str | None = Field(default=None, max_length=128)
    traceparent: str | None = Field(default=None, max_length=64)
    data: PayloadT

    @classmethod
    def type_name(cls) -> str:
        """The wire name with its major version, for example ``model.trained.v1``."""
        return str(cls.model_fields["type"].default)

    @classmethod
    def root(
        cls,
        data: PayloadT,
        *,
        subject: str,
        source: str,
        id: str | None = None,  # noqa: A002 - the CloudEvents name
        time: datetime | None = None,
    ) -> Self:
        """An event nothing inside Tidemill caused. Give ``id`` to make a repeated publication harmless."""
        return cls.model_validate(
            {"id": id or str(uuid4()), "source": source, "subject": subject, "time": time or _now(), "data": data}
        )

    @classmethod
    def caused_by(
        cls,
        cause: "Event[Any]",
        data: PayloadT,
        *,
        subject: str | None = None,
        source: str | None = None,
        time: datetime | None = None,
    ) -> Self:
        """An event that follows from ``cause``; its id is derived, so that a repeated handler repeats it."""
        subject = subject or cause.subject
        return cls.model_validate(
            {
                "id": child_id(cause.id, cls.type_name(), subject),
                "source": source or f"urn:tidemill:{cls.publishers[0]}",
                "subject": subject,
                "time": time or _now(),
                "correlationid": cause.correlationid or cause.id,
                "causationid": cause.id,
                "data": data,
            }
        )

    @property
    def pipeline(self) -> str:
        """The pipeline part of the subject."""
        return self.subject.partition("/")[0]

    def stream(self, namespace: str) -> str:
        """The stream this event belongs to."""
        return stream_key(namespace, self.type, self.pipeline if self.plane == "data" else None)

    def to_json(self) -> bytes:
        """The bytes of the stream entry's one field."""
        return self.model_dump_json(exclude_none=True).encode()


def as_uuid(event_id: str) -> UUID:
    """A UUID for any event id, for systems that insist on one."""
    return uuid5(_NAMESPACE, event_id)
