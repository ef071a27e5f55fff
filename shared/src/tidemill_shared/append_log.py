"""An append-only sequence of documents in the object store: the highest number is the present."""

import asyncio
import re
from typing import Generic, TypeVar

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_shared.errors import ObjectMissing, Poison
from tidemill_shared.store import Store

DocumentT = TypeVar("DocumentT", bound=Document)
_ENTRY = re.compile(r"([0-9]{8})\.json")
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts at an entry that was just seen: rclone names a new object a moment before it gives it."""


class AppendLog(Generic[DocumentT]):
    """Documents ``<prefix>00000001.json``, ``00000002.json``, … Writers hold a lock; readers need none.

    The store has no conditional put to rely on, so who appends must be the only writer (``Bus.lock``).
    """

    def __init__(self, store: Store, prefix: str, document: type[DocumentT]) -> None:
        self._store = store
        self._prefix = prefix
        self._document = document
        self._known = 0

    def key(self, sequence: int) -> str:
        """Where an entry lies."""
        return f"{self._prefix}{sequence:08d}.json"

    async def height(self) -> int:
        """The highest number, 0 when the log is empty."""
        if not self._known:
            self._known = max(await self.sequences(), default=0)
            if not self._known:
                return 0
        # Entries are consecutive: from the last one known, look for followers instead of listing everything again.
        while await self._store.exists(self.key(self._known + 1)):
            self._known += 1
        return self._known

    async def sequences(self) -> list[int]:
        """The numbers of all entries, ascending; objects of other names are none of ours."""
        keys = [key.removeprefix(self._prefix) for key in await self._store.list(self._prefix)]
        return sorted(int(found[1]) for key in keys if (found := _ENTRY.fullmatch(key)))

    async def last(self) -> tuple[int, DocumentT] | None:
        """The highest entry, or None when the log is empty."""
        height = await self.height()
        return (height, await self._read(height)) if height else None

    async def entries(self) -> list[tuple[int, DocumentT]]:
        """All entries, oldest first."""
        return [(sequence, await self._read(sequence)) for sequence in await self.sequences()]

    async def append(self, sequence: int, document: DocumentT) -> ArtifactRef:
        """Write entry ``sequence``, which must be the next one. Raises Poison when it is taken."""
        if await self._store.exists(self.key(sequence)):
            raise Poison("sequence_taken", f"{self.key(sequence)} exists already: two writers without a lock?")
        return await self._store.put_document(self.key(sequence), document)

    async def _read(self, sequence: int) -> DocumentT:
        """An entry that is known to be there. Raises ObjectMissing, never Poison: a later delivery may find it."""
        for pause in (*_PAUSES, None):
            document = await self._store.read_document(self.key(sequence), self._document)
            if document is not None:
                return document
            if pause is not None:
                await asyncio.sleep(pause)
        self._known = 0  # the listing that named it may have been spoilt on its way: ask again
        raise ObjectMissing(f"{self.key(sequence)} is named by the store but cannot be read")
