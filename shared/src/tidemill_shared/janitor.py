"""Consumers of replicas that are gone."""

from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tidemill_shared.scripts import Script

_SWEEP = Script.named("janitor.lua")


async def sweep(redis: Redis, streams: Iterable[str], group: str, idle_seconds: float) -> int:
    """Remove the group's consumers that hold nothing and were idle so long; returns how many. Raises redis errors.

    A consumer that comes back is made again by its next read.
    """
    removed = 0
    for stream in streams:
        try:
            removed += int(await _SWEEP(redis, [stream], [group, int(idle_seconds * 1000)]))
        except ResponseError as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
    return removed
