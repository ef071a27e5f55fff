"""How FastStream sees our entries: plain CloudEvents JSON, without its own binary frame."""

import json
from typing import Any

from faststream.redis.parser import MessageFormat


class CloudEventsFormat(MessageFormat):
    """The bytes of ``__data__`` are the event itself, so that any client in any language can write one.

    FastStream's default format is a private binary frame whose header lengths count characters (one non-ASCII header
    breaks it); and a plain JSON body with a string ``data`` would be unwrapped as its legacy envelope.
    """

    @classmethod
    async def encode(
        cls,
        *,
        message: Any,
        reply_to: str | None,
        headers: dict[str, Any] | None,
        correlation_id: str,
        serializer: Any = None,
        codec: Any = None,
    ) -> bytes:
        """Events are encoded by the time they get here."""
        return message if isinstance(message, bytes) else bytes(message.to_json())

    @classmethod
    def parse(cls, data: bytes) -> tuple[bytes, dict[str, Any]]:
        """The body untouched; ids for FastStream's context. Invalid bytes are judged by the bus, not here."""
        try:
            event = json.loads(data)
            headers = {"message_id": str(event["id"]), "correlation_id": str(event.get("correlationid") or event["id"])}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            headers = {}
        return data, headers | {"content-type": "application/octet-stream"}
