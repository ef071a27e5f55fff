"""A log of each pipeline whose entries are ours only where they bear our seal: promotions, rollouts, anchors."""

from collections.abc import Callable
from typing import Generic, TypeVar

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.store import Store

log = logger(__name__)
DocumentT = TypeVar("DocumentT", bound=Document)


class SealedLog(Generic[DocumentT]):
    """``prefix`` is where a pipeline's entries lie; ``opened`` checks the bytes of one: it raises Poison for what we
    did not write there."""

    def __init__(
        self,
        store: Store,
        document: type[DocumentT],
        prefix: Callable[[str], str],
        opened: Callable[[bytes, str, int], DocumentT],
    ) -> None:
        self._store = store
        self._document = document
        self._prefix = prefix
        self._opened = opened
        self._logs: dict[str, AppendLog[DocumentT]] = {}

    async def height(self, pipeline: str) -> int:
        """The highest number, whoever wrote it; 0 when there is none."""
        return await self._log(pipeline).height()

    async def newest(
        self, pipeline: str, wanted: Callable[[DocumentT], bool] = lambda _: True, *, after: int = 0
    ) -> DocumentT | None:
        """The newest entry of our own that is ``wanted``, of those that follow number ``after``."""
        for sequence in range(await self.height(pipeline), max(0, after), -1):
            entry = await self._entry(pipeline, sequence)
            if entry and wanted(entry):
                return entry
        return None

    async def all(self, pipeline: str) -> list[DocumentT]:
        """Every entry of our own, oldest first."""
        found = [await self._entry(pipeline, sequence) for sequence in await self._log(pipeline).sequences()]
        return [entry for entry in found if entry]

    async def append(self, pipeline: str, sequence: int, entry: DocumentT) -> ArtifactRef:
        """Write the next entry. Raises Poison when its number is taken."""
        return await self._log(pipeline).append(sequence, entry)

    def _log(self, pipeline: str) -> AppendLog[DocumentT]:
        if pipeline not in self._logs:
            self._logs[pipeline] = AppendLog(self._store, self._prefix(pipeline), self._document)
        return self._logs[pipeline]

    async def _entry(self, pipeline: str, sequence: int) -> DocumentT | None:
        """None for one that is missing or that somebody else put there."""
        data = await self._store.read(self._log(pipeline).key(sequence))
        if data is None:
            return None
        try:
            return self._opened(data, pipeline, sequence)
        except Poison as error:
            kind = self._document.__name__.lower()
            log.error("not an entry of ours", kind=kind, pipeline=pipeline, sequence=sequence, why=str(error))
            return None
