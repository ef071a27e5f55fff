"""The door of every HTTP route: who asks, how often, how much. Plain ASGI, a few microseconds a request."""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from tidemill_shared.access import ApiKey, Keys, Scope, is_loopback, keys_of
from tidemill_shared.settings import HttpSettings

COOKIE = "tidemill_key"
"""Where a browser keeps the key (HttpOnly, SameSite=Strict); programs send ``Authorization: Bearer``."""
_CALLERS = 4096
"""Callers whose rate is remembered; beyond it the one idle for longest starts anew."""


class Rate:
    """Token buckets by caller: ``per_second`` in the long run, twice that at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._size = max(1.0, 2 * per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> float:
        """0 when the caller may go on, else the seconds to wait. ``now`` is any clock that only goes forward."""
        left, then = self._buckets.get(caller, (self._size, now))
        left = min(self._size, left + (now - then) * self._per_second)
        allowed = left >= 1.0
        self._buckets[caller] = (left - 1.0 if allowed else left, now)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_second


@dataclass(frozen=True)
class Refusal:
    """An answer before anything of the request was read."""

    status: int
    error: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send) -> None:
        """Answer with it."""
        body = json.dumps({"error": self.error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _presented(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    cookies = None
    for name, value in headers:
        if name == b"authorization":
            kind, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if kind.lower() == "bearer" else ""
        if name == b"cookie":
            cookies = value.decode("latin-1")
    if cookies is None:
        return None
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _local(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether neither Host nor Origin names another machine: a page from elsewhere, open in a browser here, can reach
    loopback too (DNS rebinding, cross-site requests)."""
    for name, value in headers:  # noqa: SIM110 - a generator costs more than the loop
        if name in (b"host", b"origin") and not _names_loopback(value):
            return False
    return True


@lru_cache(maxsize=256)
def _names_loopback(address: bytes) -> bool:
    try:
        host = urlsplit(f"//{address.decode('latin-1').rpartition('//')[2]}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


class Door:
    """What guards share: the keys, the rates, the largest body."""

    def __init__(self, settings: HttpSettings) -> None:
        self._keys: Keys | None = keys_of(settings)
        self._rate = Rate(settings.rate_per_second)
        self.max_body_bytes = settings.max_body_bytes

    def refuse(self, connection: Connection, scope: Scope) -> Refusal | None:
        """Why this request does not get through, if so."""
        caller = connection["client"][0] if connection.get("client") else "local"
        if self._keys is None:
            if not _local(connection["headers"]):
                return Refusal(403, "without API keys only programs on this machine are answered")
        else:
            found = self._identify(self._keys, connection, scope)
            if isinstance(found, Refusal):
                return found
            caller = f"key {found.name}"
        wait = self._rate.take(caller, time.monotonic())
        if wait:
            after = (b"retry-after", str(math.ceil(wait)).encode())
            return Refusal(429, "too many requests for this key: slow down", (after,))
        return self._too_long(connection)

    @staticmethod
    def _identify(keys: Keys, connection: Connection, scope: Scope) -> ApiKey | Refusal:
        presented = _presented(connection["headers"])
        key = keys.find(presented) if presented else None
        if key is None:
            what = "an API key is needed: send Authorization: Bearer" if presented is None else "no such API key"
            return Refusal(401, what, ((b"www-authenticate", b'Bearer realm="tidemill"'),))
        if scope not in key.scopes:
            return Refusal(403, f"the key {key.name!r} has no scope {scope!r}")
        return key

    def _too_long(self, connection: Connection) -> Refusal | None:
        for name, value in connection["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > self.max_body_bytes):
                return Refusal(413, f"the body is larger than {self.max_body_bytes} bytes")
        return None


class Guard:
    """ASGI middleware that lets through who has ``scope``, and no longer body than allowed, whatever its header says.

    Answers 401, 403, 413 or 429 with ``{"error": …}``; a body that turns out too long raises HTTPException(413)
    where the route reads it.
    """

    def __init__(self, app: ASGIApp, door: Door, scope: Scope) -> None:
        self._app = app
        self._door = door
        self._scope = scope

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """One request; WebSockets, which nothing here speaks, are refused."""
        if connection["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._door.refuse(connection, self._scope)
        if refusal:
            await refusal.send(send)
            return
        limit, read = self._door.max_body_bytes, 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"the body is larger than {limit} bytes")
            return message

        await self._app(connection, counted, send)


def guarded(routes: Sequence[BaseRoute], door: Door, scope: Scope) -> list[BaseRoute]:
    """The same routes behind the door. A route inside that needs more can be guarded once again."""
    for route in routes:
        if not isinstance(route, (Route, Mount)):
            raise TypeError(f"{route!r}: only routes and mounts can be guarded")
        route.app = Guard(route.app, door, scope)
    return list(routes)
