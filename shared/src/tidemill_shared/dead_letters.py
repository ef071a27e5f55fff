"""Dead letters: list, show, replay, drop."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import FIELD
from tidemill_contracts.streams import dead_letter_key
from tidemill_shared.nodes import Nodes, nodes_of
from tidemill_shared.scripts import Script

_REPLAY = Script(
    """local e = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #e == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', '__data__', ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[1])"""
)
_PAGE = 500


@dataclass(frozen=True)
class Buried:
    """A dead letter with the original bytes of its event."""

    id: str
    letter: DeadLetter
    body: bytes


class DeadLetters:
    """The namespace's dead letters, oldest first."""

    def __init__(self, servers: Redis | Nodes, namespace: str) -> None:
        self._nodes = nodes_of(servers)
        self._redis = self._nodes.control
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

    async def every(self, *, group: str | None = None, reason: str | None = None) -> AsyncIterator[Buried]:
        """All of them, or those of one group or reason, oldest first, in bounded memory."""
        after = "-"
        while True:
            page: Any = await self._redis.xrange(self._key, after, count=_PAGE)
            if not page:
                return
            for letter_id, fields in page:
                found = self._read(letter_id, fields)
                if group in (None, found.letter.group) and reason in (None, found.letter.reason):
                    yield found
            after = f"({page[-1][0].decode()}"

    async def replay(self, letter_id: str) -> bool:
        """Put the original event back into its stream and drop the letter, in one step. False: no such letter.

        In a cluster a pipeline's stream lies elsewhere: there it is two steps, and a crash between keeps the letter.
        """
        buried = await self.get(letter_id)
        if buried is None:
            return False
        stream = buried.letter.stream
        if self._nodes.slot(self._key) != self._nodes.slot(stream):
            await self._nodes.of(stream).xadd(stream, {FIELD: buried.body})
            return await self.drop(letter_id)
        return bool(await _REPLAY(self._redis, [self._key, buried.letter.stream], [letter_id, buried.body]))

    async def drop(self, letter_id: str) -> bool:
        """Remove a letter for good. False: no such letter."""
        return bool(await self._redis.xdel(self._key, letter_id))

    @staticmethod
    def _read(letter_id: bytes, fields: dict[bytes, bytes]) -> Buried:
        letter = DeadLetter.from_json(fields[b"letter"])
        return Buried(letter_id.decode(), letter, fields.get(FIELD.encode(), b""))


def in_order(letters: Iterable[Buried]) -> list[Buried]:
    """Letters as their events came about: each after its cause, and otherwise by arrival in its stream.

    They were buried in the order in which they were given up, which says nothing: an early event that was retried often
    is buried after a late one that was refused at once.
    """
    arrived = sorted(letters, key=lambda b: tuple(int(part) for part in b.letter.entry.split("-")))
    by_event = {b.letter.event_id: b for b in arrived if b.letter.event_id}
    ordered: dict[str, Buried] = {}
    for letter in arrived:
        # Up the chain of causes; what is in the result already, or seen on the way, ends it.
        chain: dict[str, Buried] = {}
        cause: Buried | None = letter
        while cause and cause.id not in ordered and cause.id not in chain:
            chain[cause.id] = cause
            cause = by_event.get(_cause(cause.body) or "")
        ordered |= dict(reversed(chain.items()))
    return list(ordered.values())


def _cause(body: bytes) -> str | None:
    try:
        found = json.loads(body).get("causationid")
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
