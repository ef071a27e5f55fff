"""Streams that a service no longer reads, since all that came from them was poison, until an operator resumes them."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from tidemill_contracts.streams import state_key
from tidemill_shared import telemetry
from tidemill_shared.dead_letter_limit import DeadLetterLimit
from tidemill_shared.log import logger
from tidemill_shared.settings import DeliverySettings

log = logger(__name__)


def halts_key(namespace: str, service: str) -> str:
    """A hash of the service's halted streams, each with since when and why."""
    return state_key(namespace, service, "halted")


class Halts:
    """What all replicas of a service share: a halt of one is found by the others, and outlives a restart."""

    def __init__(self, redis: Redis, namespace: str, service: str, settings: DeliverySettings) -> None:
        self._redis = redis
        self._key = halts_key(namespace, service)
        self._limit = DeadLetterLimit(
            settings.dead_letter_limit, settings.dead_letter_share, settings.dead_letter_window_seconds
        )
        self._unsaid: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.streams: frozenset[str] = frozenset()

    def note(self, stream: str, handled: int = 0, buried: int = 0) -> None:
        """So many events of a stream were handled and buried just now."""
        if not self._limit.note(stream, handled, buried) or stream in self.streams:
            return
        limit = self._limit
        why = f"{limit.share:.0%} or more of its last events went to the dead letters, at least {limit.count} of them"
        self._unsaid[stream] = json.dumps({"since": datetime.now(UTC).isoformat(), "why": why})
        self.streams |= {stream}
        log.error("stream no longer read: all that comes from it is poison", stream=stream, why=why)
        telemetry.counter("tidemill.events.halted").add(1, {"type": stream.rpartition("}:")[2]})

    async def look(self) -> None:
        """Tell the others what was halted here, learn what they halted or an operator resumed. Raises redis errors."""
        for stream, about in list(self._unsaid.items()):
            await self._redis.hset(self._key, stream, about)
            self._unsaid.pop(stream, None)
        known: Any = await self._redis.hkeys(self._key)
        told = frozenset(name.decode() for name in known) | self._unsaid.keys()
        if told == self.streams:
            return
        for stream in self.streams - told:
            self._limit.forget(stream)
            log.warning("stream read again", stream=stream)
        self.streams = told
        self._changed.set()
        self._changed = asyncio.Event()

    async def passable(self, stream: str) -> None:
        """Return as soon as the stream is not halted."""
        while stream in self.streams:
            await self._changed.wait()


async def halted(redis: Redis, namespace: str, services: Iterable[str]) -> list[dict[str, str]]:
    """Every halted stream: service, stream, since, why. Raises redis errors."""
    found = []
    for service in services:
        streams: Any = await redis.hgetall(halts_key(namespace, service))
        found += [{"service": service, "stream": s.decode(), **json.loads(about)} for s, about in streams.items()]
    return found


async def resume(redis: Redis, namespace: str, service: str, stream: str) -> bool:
    """Let a service read a stream again. False: it was not halted."""
    return bool(await redis.hdel(halts_key(namespace, service), stream))
