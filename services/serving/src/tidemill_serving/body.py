"""A request's body, parsed once, whichever models read it."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from tidemill_serving.domain.tensor import BadRequest

T = TypeVar("T")
_LARGE_BYTES = 64 * 1024
"""From here on reading a request is worth a thread, so that the streams and health checks go on."""
_UNREAD = object()


class Body:
    """JSON as it came. One reads it at a time."""

    __slots__ = ("_asked", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._asked: Any = _UNREAD

    async def read(self, call: Callable[[Any], T]) -> T:
        """What ``call`` makes of the document. Raises BadRequest, and what the call raises."""
        if len(self._raw) < _LARGE_BYTES:
            return call(self._document())
        return await asyncio.to_thread(lambda: call(self._document()))

    def _document(self) -> Any:
        if self._asked is _UNREAD:
            try:
                self._asked = orjson.loads(self._raw)
            except orjson.JSONDecodeError as error:
                raise BadRequest(f"the body is not JSON: {error}") from None
        return self._asked
