"""The events of the past, back in their streams as read by everybody: what `trace` and `watch --past` show."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

from redis.asyncio import Redis

from tidemill_contracts.registry import EVENTS
from tidemill_contracts.streams import stream_key
from tidemill_shared.archive import Archived, archived
from tidemill_shared.permissions import SERVICES
from tidemill_shared.scripts import Script
from tidemill_shared.store import Store

_BACK = Script(files("tidemill_console").joinpath("recovery/past.lua").read_text())
_AT_ONCE = 500


class Past:
    """The archive, read once: entries by type."""

    def __init__(self, types: dict[str, list[Archived]]) -> None:
        self._types = types

    @classmethod
    async def read(cls, store: Store, days: int) -> "Past":
        """What was archived in the last ``days``. Raises StoreUnavailable."""
        since: date = datetime.now(UTC).date() - timedelta(days=days)
        return cls(dict([part async for part in archived(store, since)]))

    async def bring_back(self, redis: Redis, namespace: str) -> dict[str, int]:
        """Entries put back, by type; none of a stream that lives. Raises redis errors."""
        counts = {}
        for type_, entries in self._types.items():
            if type_ in EVENTS:
                groups = [name for name in EVENTS[type_].consumers if name in SERVICES]
                counts[type_] = await _stream(redis, stream_key(namespace, type_), groups, entries)
        return counts


async def _stream(redis: Redis, stream: str, groups: Sequence[str], entries: Sequence[Archived]) -> int:
    before, count = "0-0", 0
    for first in range(0, len(entries), _AT_ONCE):
        part = entries[first : first + _AT_ONCE]
        words = [word for a in part for word in (a.entry, a.body)]
        if await _BACK(redis, [stream], [before, len(groups), *groups, *words]) < 0:
            return count
        before, count = part[-1].entry, count + len(part)
    return count
