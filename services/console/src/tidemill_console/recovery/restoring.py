"""Restore: objects from a backup, the past from the archive, and what is owed from the records."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tidemill_console.connection import Client
from tidemill_console.recovery.backup import put_back
from tidemill_console.recovery.owed import Owed
from tidemill_console.recovery.past import Past
from tidemill_console.recovery.place import Place

_AT_ONCE = 100
_DAYS = 30
"""How far back the past is brought back: as long as streams keep it."""


@dataclass(frozen=True)
class Restored:
    """How many objects and events of the past were put back, and what was published again, by type."""

    objects: int
    past: int
    events: dict[str, int]


async def restore(client: Client, source: Place | None, say: Callable[[str], None]) -> Restored:
    """Harmless when nothing was lost. Raises TidemillError for a backup that is none, redis and store errors."""
    objects = await put_back(client.store, source, say) if source else 0
    await client.pipelines.load()
    past = await (await Past.read(client.store, _DAYS)).bring_back(client.bus.redis, client.namespace)
    events = await Owed(client.store, client.pipelines).events()
    for first in range(0, len(events), _AT_ONCE):
        await client.bus.publish(*events[first : first + _AT_ONCE])
    return Restored(objects, sum(past.values()), dict(Counter(event.type for event in events)))
