"""The finished parts of a batch: each a Parquet file and a record of it, written in this order."""

from typing import Self

from tidemill_contracts.artifacts import batch_key
from tidemill_contracts.batch import BatchPart, BatchPlan, BatchProgress
from tidemill_contracts.envelope import child_id
from tidemill_contracts.events import BatchProgressed, BatchRequested
from tidemill_serving.scoring.job import Finished
from tidemill_shared.bus import Bus
from tidemill_shared.log import logger
from tidemill_shared.store import Store

log = logger(__name__)


class Parts:
    """What is done, in order, without a gap."""

    def __init__(self, bus: Bus, store: Store, event: BatchRequested) -> None:
        self._bus = bus
        self._store = store
        self._event = event
        self.done: list[BatchPart] = []

    @classmethod
    async def of(cls, bus: Bus, store: Store, event: BatchRequested, plan: BatchPlan) -> Self:
        """What earlier deliveries finished under the same plan."""
        parts = cls(bus, store, event)
        while record := await store.read_document(parts._key(len(parts.done), "json"), BatchPart):
            if (record.index, record.model_version) != (len(parts.done), plan.model_version):
                break
            parts.done.append(record)
        return parts

    def _key(self, index: int, suffix: str) -> str:
        return batch_key(self._event.pipeline, self._event.id, f"part-{index:05d}.{suffix}")

    async def keep(self, finished: Finished) -> None:
        """Store a part, then its record, then say so."""
        file = await self._store.put_file(self._key(finished.index, "parquet"), finished.path)
        finished.path.unlink()
        part = BatchPart(
            index=finished.index,
            model_version=finished.model_version,
            file=file,
            rows=finished.rows,
            failed=sum(finished.errors.values()),
            errors=finished.errors,
        )
        await self._store.put_document(self._key(finished.index, "json"), part)
        self.done.append(part)
        await self._tell(finished.total)

    async def _tell(self, total: int | None) -> None:
        event, parts = self._event, len(self.done)
        rows, failed = sum(p.rows for p in self.done), sum(p.failed for p in self.done)
        progress = BatchProgress(batch=event.id, parts=parts, rows=rows, failed=failed, total=total)
        told = BatchProgressed.caused_by(event, progress, subject=event.pipeline)
        told = told.model_copy(update={"id": child_id(event.id, told.type, f"{event.pipeline} {parts}")})
        try:
            await self._bus.publish(told)
        except Exception as error:
            # Whoever watches misses a line; the batch itself does not depend on it.
            log.warning("progress not published", pipeline=event.pipeline, batch=event.id, why=repr(error))
