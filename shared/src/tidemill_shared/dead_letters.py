"""Dead letters: list, show, replay, drop."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.streams import dead_letter_key
from tidemill_shared.scripts import Script

_REPLAY = Script(
    """local e = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #e == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', '__data__', ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[1])"""
)


@dataclass(frozen=True)
class Buried:
    """A dead letter with the original bytes of its event."""

    id: str
    letter: DeadLetter
    body: bytes


class DeadLetters:
    """The namespace's dead letters, oldest first."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._key = dead_letter_key(namespace)

    async def count(self) -> int:
        """How many there are."""
        return int(await self._redis.xlen(self._key))

    async def list(self, count: int = 100) -> list[Buried]:
        """The oldest ``count``."""
        found: Any = await self._redis.xrange(self._key, count=count)
        return [self._read(i, fields) for i, fields in found]

    async def get(self, letter_id: str) -> Buried | None:
        """One by its id."""
        found: Any = await self._redis.xrange(self._key, letter_id, letter_id)
        return self._read(*found[0]) if found else None

    async def replay(self, letter_id: str) -> bool:
        """Put the original event back into its stream and drop the letter, in one step. False: no such letter."""
        buried = await self.get(letter_id)
        if buried is None:
            return False
        return bool(await _REPLAY(self._redis, [self._key, buried.letter.stream], [letter_id, buried.body]))

    async def drop(self, letter_id: str) -> bool:
        """Remove a letter for good. False: no such letter."""
        return bool(await self._redis.xdel(self._key, letter_id))

    @staticmethod
    def _read(letter_id: bytes, fields: dict[bytes, bytes]) -> Buried:
        letter = DeadLetter.from_json(fields[b"letter"])
        return Buried(letter_id.decode(), letter, fields.get(FIELD.encode(), b""))
