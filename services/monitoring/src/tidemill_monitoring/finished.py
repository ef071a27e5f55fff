"""Which rows are finished, in a few bytes each: what comes for one of them again is not counted again."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from tidemill_monitoring.keys import Keys
from tidemill_shared.scripts import Script

Write = tuple[str | bytes | int | float, ...]
SHARDS = 256
"""Sets an id may be in. Redis keeps up to 512 integers as a sorted array of 8 bytes each (``set-max-intset-entries``),
so up to about 110 000 ids a turn take little more than that; a sorted set of ids took 100."""
_WORDS = 500
_AT_ONCE = 20_000
_MEMBERS = Script("""
local found, at = {}, 1
for k = 1, #KEYS do
  local n = tonumber(ARGV[at])
  for _, hit in ipairs(redis.call('SMISMEMBER', KEYS[k], unpack(ARGV, at + 1, at + n))) do found[#found + 1] = hit end
  at = at + n + 1
end
return found
""")


class Finished:
    """Ids of finished rows, as 64 bits of their digest.

    Two generations take turns: when ``rows`` ids are in the present one, the older is emptied and becomes the present.
    So at least the latest ``rows`` ids are known, and at most twice as many. Among 200 000, a new id is taken for one
    of them once in 10¹⁴.
    """

    def __init__(self, redis: Redis, keys: Keys, rows: int) -> None:
        self._redis = redis
        self._keys = keys
        self._rows = rows
        self._turn = 0
        self._count = 0

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are finished; also learns how full the present generation is."""
        mark = await self._redis.get(self._keys.done_mark)
        self._turn, self._count = (int(part) for part in (mark or b"0 0").split())
        shards = _sharded(ids)
        places = [(shard, turn) for shard in shards for turn in (0, 1)]
        if not places:
            return set()
        words = [word for shard, _ in places for word in (len(shards[shard]), *shards[shard])]
        hits = await _MEMBERS(self._redis, [self._keys.done(turn, shard) for shard, turn in places], words)
        asked = [id_ for shard, _ in places for id_ in shards[shard].values()]
        return {id_ for id_, hit in zip(asked, hits, strict=True) if hit}

    async def adopt(self) -> None:
        """Take over what an earlier release kept, the newest ids first, and drop it; a crash repeats it."""
        former = self._keys.former_done
        ids: Any = await self._redis.zrange(former, 0, self._rows - 1, desc=True)
        if not ids:
            return
        await self.known(())
        # To the older generation, which is the next to be emptied.
        for at in range(0, len(ids), _AT_ONCE):
            part = [id_.decode() for id_ in ids[at : at + _AT_ONCE]]
            pipe = self._redis.pipeline(transaction=False)
            for shard, members in _sharded(part).items():
                pipe.sadd(self._keys.done(1 - self._turn, shard), *members)
            await pipe.execute()
        await self._redis.unlink(former)

    def writes(self, ids: Sequence[str]) -> list[Write]:
        """The commands that add ids, to be run in one step with what finished their rows, after ``known``."""
        if not ids:
            return []
        writes: list[Write] = []
        turn, count = self._turn, self._count
        if count >= self._rows:
            turn, count = 1 - turn, 0
            writes.append(("UNLINK", *(self._keys.done(turn, shard) for shard in range(SHARDS))))
        for shard, members in _sharded(ids).items():
            numbers = list(members)
            places = range(0, len(numbers), _WORDS)
            writes += [("SADD", self._keys.done(turn, shard), *numbers[at : at + _WORDS]) for at in places]
        writes.append(("SET", self._keys.done_mark, f"{turn} {count + len(ids)}"))
        return writes


def _sharded(ids: Iterable[str]) -> dict[int, dict[int, str]]:
    """By shard the digests of ids, with the ids."""
    shards: dict[int, dict[int, str]] = {}
    for id_ in ids:
        number = _digest(id_)
        shards.setdefault(number % SHARDS, {})[number] = id_
    return shards


def _digest(id_: str) -> int:
    """64 bits of an id's BLAKE2b, as a signed integer."""
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "little", signed=True)
