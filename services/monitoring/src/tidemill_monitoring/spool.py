"""A list in Redis that is emptied into objects, such that a crash at any point repeats the very same object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill_contracts.envelope import FIELD, Event
from tidemill_shared.delivery import Completion, Mailbox


@dataclass(frozen=True, slots=True)
class Taken:
    """Items at the head of the list that are being written out, and the mark that says so."""

    items: tuple[bytes, ...]
    sequence: int


class Spool:
    """Items are appended by the batches' own atomic step; here the head of the list is taken and settled.

    The mark beside the list says how many of its first items were chosen. It is set before anything is written and
    removed together with the items, so whoever comes after a crash writes the same items again: the same object by
    digest, the same event by id.
    """

    def __init__(self, mailbox: Mailbox, key: str) -> None:
        self._mailbox = mailbox
        self._redis = mailbox.nodes.of(key)
        self._items = key
        self._mark = mark_of(key)

    async def waiting(self) -> tuple[int, bytes | None, bool]:
        """Number of items, the oldest one, and whether a choice of them was left unsettled."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.llen(self._items)
        pipe.lindex(self._items, 0)
        pipe.get(self._mark)
        count, oldest, mark = await pipe.execute()
        return int(count), oldest, _chosen(mark)[1] > 0

    async def take(self, limit: int, ready: Callable[[Sequence[bytes]], int] = len) -> Taken | None:
        """The items to write out: those chosen before, else at most ``limit`` of the oldest, as many of them from the
        first on as ``ready`` says.

        Raises StaleState when another replica chooses at the same time.
        """
        mark: Any = await self._redis.get(self._mark)
        sequence, rows = _chosen(mark)
        if not rows:
            waiting: Any = await self._redis.lrange(self._items, 0, limit - 1)
            rows = ready(waiting)
            if not rows:
                return None
            chosen = ("SET", self._mark, f"{sequence}:{rows}")
            await self._mailbox.complete(Completion(guard=(self._mark, mark), writes=[chosen]))
        items: Any = await self._redis.lrange(self._items, 0, rows - 1)
        return Taken(tuple(items), sequence)

    async def settle(self, taken: Taken, events: Sequence[Event[Any]] = ()) -> None:
        """Remove the items and publish the events in one step. Raises StaleState when that was done already."""
        rows = len(taken.items)
        expected = f"{taken.sequence}:{rows}".encode()
        await self._mailbox.complete(
            Completion(
                guard=(self._mark, expected),
                writes=[
                    *(("XADD", e.stream(self._mailbox.namespace), "*", FIELD, e.to_json()) for e in events),
                    ("LTRIM", self._items, rows, -1),
                    ("SET", self._mark, f"{taken.sequence + 1}:0"),
                ],
            )
        )


def mark_of(key: str) -> str:
    """Where a list's mark lies: which of its choices this is, and how many of its first items are chosen."""
    return f"{key}-mark"


def _chosen(mark: bytes | None) -> tuple[int, int]:
    sequence, rows = (mark or b"0:0").split(b":")
    return int(sequence), int(rows)
