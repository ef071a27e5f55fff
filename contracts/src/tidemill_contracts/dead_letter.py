"""Events that could not be handled."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tidemill_contracts.document import Document


class DeadLetter(Document):
    """Payload of ``event.dead_lettered``; the original bytes lie in the dead-letter stream beside it."""

    group: str
    stream: str
    entry: str
    reason: Literal["undecodable", "unknown_type", "too_large", "checksum", "invalid", "deliveries", "poison"]
    message: str = Field(max_length=2000)
    deliveries: int
    event_id: str | None = None
    event_type: str | None = None
    at: datetime
    """When it was given up."""
    arrived_at: datetime | None = None
    """When it came into its stream."""
