"""The monitor's state of a pipeline, copied to the object store, and put back into a Redis that has nothing."""

import secrets
from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from tidemill_monitoring.finished import Write
from tidemill_monitoring.keys import Keys
from tidemill_shared.bus import Bus
from tidemill_shared.delivery import Completion
from tidemill_shared.errors import StaleState
from tidemill_shared.log import logger
from tidemill_shared.scripts import Script
from tidemill_shared.state_copies import StateCopies
from tidemill_shared.store import Store

log = logger(__name__)
_WORDS = 500
"""Of one Redis command: Lua's stack is bounded."""
_STRINGS = ("state", "held", "alert")
_WHOLE = Script("""
local found = {}
for k = 1, 4 do found[k] = redis.call('GET', KEYS[k]) or '' end
found[5] = redis.call('LRANGE', KEYS[5], 0, -1)
found[6] = redis.call('HGETALL', KEYS[6])
found[7] = redis.call('HGETALL', KEYS[7])
return found
""")
"""All of a state at once: no batch comes between."""


class Copying:
    """Copies hold what the judgement stands on: open windows, what is known of the labels, the baseline, standing
    alarms. Rows that wait for their answer or label, or to be sent back, are not among it: there are too many."""

    def __init__(self, bus: Bus, store: Store, every_seconds: float) -> None:
        self._bus = bus
        self._copies = StateCopies(bus, store, "monitoring", every_seconds)

    async def copy(self, pipeline: str, version: bytes) -> None:
        """Copy the state when it has changed and the last copy is old enough. Raises StoreUnavailable, redis errors."""
        if await self._copies.due(pipeline, version):
            keys = Keys(self._bus.namespace, pipeline)
            await self._copies.write(pipeline, *await _read(self._bus.nodes.of(keys.version), keys))

    async def put_back(self, pipeline: str) -> bool:
        """Store the latest copy as the state; returns whether there is a state now. For a pipeline without one.

        Raises StoreUnavailable.
        """
        data = await self._copies.read(pipeline)
        if data is None:
            return False
        keys = Keys(self._bus.namespace, pipeline)
        try:
            writes = _writes(keys, orjson.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("the copy of the monitor's state cannot be read", pipeline=pipeline, why=repr(error)[:500])
            return False
        log.warning("Redis has no state of the monitor: it goes on from the copy", pipeline=pipeline)
        try:
            await self._bus.mailbox.complete(Completion(guard=(keys.version, None), writes=writes))
        except StaleState:
            log.info("another replica was quicker", pipeline=pipeline)
        return True


async def _read(redis: Redis, keys: Keys) -> tuple[bytes, bytes]:
    """The version of the state, and all of it at that version."""
    names = [keys.version, *(getattr(keys, name) for name in _STRINGS), keys.recent, keys.awaited, keys.history]
    version, *strings, recent, awaited, history = await _WHOLE(redis, names, [])
    whole = {
        "strings": {name: value.decode() for name, value in zip(_STRINGS, strings, strict=True)},
        "recent": [item.decode() for item in recent],
        "awaited": _fields(awaited),
        "history": _fields(history),
    }
    return version, orjson.dumps(whole)


def _fields(words: Sequence[bytes]) -> dict[str, str]:
    """A hash, as Lua gives it: field, value, field, value."""
    return {field.decode(): value.decode() for field, value in zip(words[::2], words[1::2], strict=True)}


def _writes(keys: Keys, copy: dict[str, Any]) -> list[Write]:
    """The commands that store a copy. Raises KeyError, TypeError, AttributeError for what is none."""
    writes: list[Write] = [("SET", keys.version, secrets.token_hex(8))]
    writes += [("SET", getattr(keys, name), str(copy["strings"][name])) for name in _STRINGS]
    recent = [str(item) for item in copy["recent"]]
    writes += [("RPUSH", keys.recent, *recent[at : at + _WORDS]) for at in range(0, len(recent), _WORDS)]
    for key, fields in ((keys.awaited, copy["awaited"]), (keys.history, copy["history"])):
        words = [str(word) for pair in fields.items() for word in pair]
        writes += [("HSET", key, *words[at : at + _WORDS]) for at in range(0, len(words), _WORDS)]
    return writes
