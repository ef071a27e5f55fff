"""Keeping streams short: what every group has acknowledged and nobody may want any more goes."""

from collections.abc import Iterable

from redis.asyncio import Redis

from tidemill_shared import telemetry
from tidemill_shared.scripts import Script

_TRIM = Script.named("trim.lua")
_AT_ONCE = 10_000
"""Entries removed by one call, so that Redis does not stand still."""


async def trim(redis: Redis, streams: Iterable[str], retention_seconds: float) -> int:
    """Remove entries that are older than the retention and that every group of their stream has acknowledged.

    MAXLEN would remove unacknowledged entries of a slow group: never use it here. Whole nodes of a stream go (about a
    hundred entries), so a few more may stay. Returns how many entries went. Raises redis errors.
    """
    removed = 0
    for stream in streams:
        while gone := int(await _TRIM(redis, [stream], [int(retention_seconds * 1000), _AT_ONCE])):
            removed += gone
            if gone < _AT_ONCE // 2:
                break
    if removed:
        telemetry.counter("tidemill.events.trimmed").add(removed, {})
    return removed
