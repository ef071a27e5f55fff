"""Whether Redis has room: publishers are told to come back later long before it is full; what is under way waits."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tidemill_shared import telemetry
from tidemill_shared.errors import Overloaded
from tidemill_shared.log import logger
from tidemill_shared.nodes import Nodes, nodes_of
from tidemill_shared.settings import DeliverySettings

log = logger(__name__)
T = TypeVar("T")
_FRESH_SECONDS = 0.25
"""What was found is believed for so long."""
_LONGEST_PAUSE = 2.0


def is_full(error: Exception) -> bool:
    """Whether Redis refused a write for want of memory; before version 7 a script's error only quotes that."""
    return isinstance(error, ResponseError) and "command not allowed when used memory" in str(error)


async def when_there_is_room(
    work: Callable[[], Awaitable[T]], between: Callable[[], Awaitable[Any]] | None = None
) -> T:
    """Repeat ``work`` for as long as Redis refuses it for want of memory, which is nobody's fault here and passes.

    ``between`` runs before each repetition, where something else must be kept alive meanwhile.
    """
    pause = 0.1
    while True:
        try:
            return await work()
        except ResponseError as error:
            if not is_full(error):
                raise
            if pause == 0.1:
                log.error("Redis is full: waiting for room", why=str(error))
                telemetry.counter("tidemill.events.stalled").add(1, {})
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        if between:
            await between()


async def memory_share(redis: Redis) -> float:
    """Used memory over ``maxmemory``; 0 where there is no limit. Raises redis errors."""
    info: Any = await redis.info("memory")
    limit = int(info.get("maxmemory", 0))
    return int(info["used_memory"]) / limit if limit else 0.0


async def backlog(redis: Redis, stream: str) -> tuple[int, str]:
    """Entries that the slowest group has not read yet, and its name. Raises redis errors.

    Redis before 7 does not count them: then the number is at most the stream's length, and above
    that bound's interest an estimate from the entries' times.
    """
    groups: Any = await redis.xinfo_groups(stream) if await redis.exists(stream) else []
    length = int(await redis.xlen(stream)) if groups else 0
    worst = (0, "")
    for group in groups:
        behind = group.get("lag")
        if behind is None:
            behind = await _estimate(redis, stream, length, group["last-delivered-id"].decode())
        worst = max(worst, (int(behind), group["name"].decode()))
    return worst


async def _estimate(redis: Redis, stream: str, length: int, delivered: str) -> int:
    pipe = redis.pipeline(transaction=False)
    pipe.xrange(stream, count=1)
    pipe.xrange(stream, min=f"({delivered}", count=1)
    pipe.xrevrange(stream, count=1)
    first, unread, last = ([_milliseconds(entry) for entry, _ in found] for found in await pipe.execute())
    if not unread or not first or not last:
        return 0
    if last[0] <= first[0]:
        return length
    return max(1, round(length * (last[0] - unread[0]) / (last[0] - first[0])))


def _milliseconds(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


class Room:
    """Asked before anything new is let in; what it finds is kept for a moment, so that asking is cheap."""

    def __init__(
        self, servers: Redis | Nodes, settings: DeliverySettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nodes = nodes_of(servers)
        self._settings = settings
        self._clock = clock
        self._shares: dict[Redis, tuple[float, float]] = {}
        self._waiting: dict[str, tuple[float, int, str]] = {}

    async def check(self, stream: str) -> None:
        """Raises Overloaded when Redis is nearly full, or too much waits in this stream; and redis errors."""
        now, settings, redis = self._clock(), self._settings, self._nodes.of(stream)
        if now - self._shares.get(redis, (float("-inf"),))[0] > _FRESH_SECONDS:
            self._shares[redis] = now, await memory_share(redis)
        share = self._shares[redis][1]
        if share >= settings.shed_memory_share:
            raise Overloaded(
                f"Redis is {share:.0%} full: let the services catch up (`tidemill status` shows who lags), or raise "
                "maxmemory",
                retry_after_seconds=5.0,
            )
        if now - self._waiting.get(stream, (float("-inf"),))[0] > _FRESH_SECONDS:
            self._waiting[stream] = (now, *await backlog(redis, stream))
        _, waiting, group = self._waiting[stream]
        if waiting >= settings.max_backlog:
            raise Overloaded(f"{waiting} events wait in {stream} for {group} already", retry_after_seconds=1.0)
