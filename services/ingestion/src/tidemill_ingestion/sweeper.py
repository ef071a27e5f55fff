"""Publishes again what was accepted and has no outcome: Redis may have lost it, the inbox has not."""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

from redis.exceptions import RedisError

from tidemill_contracts.artifacts import arrival_prefix
from tidemill_contracts.events import DataArrived
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_ingestion.settings import IngestionGroup
from tidemill_shared.errors import Retryable
from tidemill_shared.log import logger
from tidemill_shared.service import Service

log = logger(__name__)
_LONGEST_PAUSE = 3600.0
"""An event that keeps failing is published again at growing intervals, up to this many seconds."""


class Sweeper:
    """Remembers since when it has seen each entry owed, so that it needs no clock but its own."""

    def __init__(self, service: Service, settings: IngestionGroup, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = service.bus
        self._store = service.store
        self._settings = settings
        self._clock = clock
        self._due: dict[str, tuple[float, float]] = {}
        self._settled: set[str] = set()
        self._swept: date | None = None

    async def sweep_for_ever(self) -> None:
        """The background loop."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            try:
                await self.sweep()
            except (Retryable, RedisError) as error:
                log.warning("cannot sweep the inbox", why=str(error))

    async def sweep(self) -> int:
        """One round; returns how many events were published again."""
        owed = sorted(await (self._owed() if self._swept else self._ever_owed()))
        self._swept = datetime.now(UTC).date()
        now, grace = self._clock(), self._settings.grace_seconds
        self._due = {name: self._due.get(name, (now + grace, grace)) for name in owed}
        published = 0
        for name, (due, pause) in list(self._due.items()):
            if now < due:
                continue
            pause = min(2 * max(pause, self._settings.sweep_seconds), _LONGEST_PAUSE)
            self._due[name] = now + pause, pause
            published += await self._publish(f"inbox/{name}")
        return published

    async def _ever_owed(self) -> set[str]:
        """Everything accepted without an outcome, however old: once, at the start."""
        done = _names(await self._store.list("outcomes/"))
        return _names(await self._store.list("inbox/")) - done

    async def _owed(self) -> set[str]:
        """What came since the day before the last round, and what was owed then: the inbox may grow for ever."""
        assert self._swept is not None  # noqa: S101 - the first round is another one
        recent: set[str] = set()
        day = self._swept - timedelta(days=1)
        while day <= datetime.now(UTC).date():
            recent |= _names(await self._store.list(arrival_prefix(day)))
            day += timedelta(days=1)
        asked = (recent | self._due.keys()) - self._settled
        settled = {name for name in asked if await self._store.stat(f"outcomes/{name}") is not None}
        self._settled = (self._settled | settled) & recent
        return asked - settled

    async def _publish(self, key: str) -> bool:
        body = await self._store.read(key)
        if body is None:
            return False
        try:
            event = parse_as(DataArrived, body)
        except InvalidEvent as error:
            log.error("inbox entry is no event", key=key, why=str(error))
            return False
        await self._bus.publish(event)
        log.warning("accepted event published again", pipeline=event.pipeline, event=event.id)
        return True


def _names(keys: Iterable[str]) -> set[str]:
    return {key.rpartition("/")[2] for key in keys}
