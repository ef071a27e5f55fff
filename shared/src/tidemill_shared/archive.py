"""The archive of the control plane's events: each stream in objects of bounded size, a few minutes behind it.

What was accepted, prepared or promoted does not depend on it. It keeps the history, which a lost Redis takes along and
trimming ends: what led to what, and why.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from tidemill_contracts.artifacts import EVENT_LOG_PREFIX, event_log_key
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.registry import EVENTS
from tidemill_contracts.streams import state_key, stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.errors import LeaseLost, Retryable
from tidemill_shared.log import logger
from tidemill_shared.permissions import SERVICES
from tidemill_shared.store import Store

log = logger(__name__)
_ENTRIES, _BYTES = 1000, 4 * 1024**2
"""Of one object, at most; before compression, and one entry may exceed it."""


@dataclass(frozen=True, slots=True)
class Archived:
    """An entry as it was in its stream."""

    entry: str
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the stream."""
        milliseconds, _, number = self.entry.partition("-")
        return int(milliseconds), int(number)


def archivist(event: type[Event[Any]]) -> str:
    """The one service that archives a stream: one that publishes it or, failing that, consumes it."""
    among = (*event.publishers, *event.consumers, "monitoring")
    return next(name for name in among if name in SERVICES)


class Archive:
    """One service's share. How far it came is remembered in Redis: where that is lost, so is what it counted."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self.types = tuple(t for t, e in EVENTS.items() if e.plane == "control" and archivist(e) == bus.group)

    async def keep(self) -> None:
        """The background loop."""
        while True:
            await asyncio.sleep(self._bus.delivery.archive_seconds)
            try:
                await self.advance()
            except (Retryable, LeaseLost, RedisError) as error:
                log.warning("cannot archive events", why=str(error))

    async def advance(self) -> int:
        """Copy what is new; returns how many entries that were. Raises Retryable when another replica is at it."""
        if not self.types:
            return 0
        async with self._bus.lock(f"archive:{self._bus.group}", patience_seconds=0.0):
            return sum([await self._stream(type_) for type_ in self.types])

    async def _stream(self, type_: str) -> int:
        stream, copied = stream_key(self._bus.namespace, type_), 0
        cursor = state_key(self._bus.namespace, self._bus.group, f"archived:{type_}")
        after: Any = await self._bus.redis.get(cursor)
        last = after.decode() if after else ""
        while True:
            found: Any = await self._bus.redis.xrange(stream, min=f"({last}" if last else "-", count=_ENTRIES)
            part = _part([Archived(entry.decode(), fields.get(FIELD.encode(), b"")) for entry, fields in found])
            if not part:
                return copied
            last = part[-1].entry
            key = event_log_key(_day(part[0]), type_, part[0].entry, last)
            await self._store.put(key, await asyncio.to_thread(_packed, part))
            await self._bus.redis.set(cursor, last)
            copied += len(part)


async def archived(store: Store, since: date | None = None) -> AsyncIterator[tuple[str, list[Archived]]]:
    """Each type of event with its entries in order, without repetitions. Raises StoreUnavailable."""
    by_type: dict[str, list[str]] = {}
    for key in await store.list(EVENT_LOG_PREFIX):
        _, day, type_, _ = key.split("/")
        if since is None or date.fromisoformat(day.removeprefix("date=")) >= since - timedelta(days=1):
            by_type.setdefault(type_, []).append(key)
    for type_, keys in by_type.items():
        entries: dict[str, Archived] = {}
        for key in keys:
            data = await store.read(key)
            entries |= {a.entry: a for a in _unpacked(data)} if data else {}
        yield type_, sorted(entries.values(), key=lambda a: a.order)


def _part(entries: Sequence[Archived]) -> list[Archived]:
    """The first entries: of one day, and not too large together."""
    part: list[Archived] = []
    size = 0
    for entry in entries:
        size += len(entry.body)
        if part and (size > _BYTES or _day(entry) != _day(part[0])):
            break
        part.append(entry)
    return part


def _day(archived: Archived) -> date:
    return datetime.fromtimestamp(archived.order[0] / 1000, UTC).date()


def _packed(part: Sequence[Archived]) -> bytes:
    # Bodies may be any bytes: what is no UTF-8 goes through as lone surrogates. No time in the file: same entries, same
    # object.
    lines = (json.dumps({"entry": a.entry, "body": a.body.decode("utf-8", "surrogateescape")}) + "\n" for a in part)
    return gzip.compress("".join(lines).encode(), mtime=0)


def _unpacked(data: bytes) -> list[Archived]:
    items = (json.loads(line) for line in gzip.decompress(data).splitlines())
    return [Archived(item["entry"], item["body"].encode("utf-8", "surrogateescape")) for item in items]
