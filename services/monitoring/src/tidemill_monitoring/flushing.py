"""Waiting rows leave: labelled ones as new data, answers as parts of the prediction log."""

import asyncio
import hashlib
import time
from typing import Any

from redis.exceptions import RedisError

from tidemill_contracts.artifacts import monitoring_key, prediction_log_key, raw_key
from tidemill_contracts.dataset import ArrivedData
from tidemill_contracts.envelope import content_id
from tidemill_contracts.events import DataArrived
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_monitoring import rows
from tidemill_monitoring.copying import Copying
from tidemill_monitoring.glance import Glance, glance
from tidemill_monitoring.holding import Held
from tidemill_monitoring.keys import Keys
from tidemill_monitoring.settings import MonitoringGroup
from tidemill_monitoring.spool import Spool
from tidemill_shared.bus import Bus
from tidemill_shared.errors import Retryable, StaleState
from tidemill_shared.inbox import accept
from tidemill_shared.log import logger
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.store import Store

log = logger(__name__)
_MOST_ROWS = 50_000
"""Of one object."""


class Flushing:
    """Looks after every pipeline's spools, for as long as the service runs."""

    def __init__(self, bus: Bus, store: Store, pipelines: Pipelines, settings: MonitoringGroup) -> None:
        self._bus = bus
        self._store = store
        self._pipelines = pipelines
        self._settings = settings
        self._copying = Copying(bus, store, settings.copy_seconds)

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                seen = await glance(self._bus, self._pipelines.names())
            except RedisError as error:
                log.warning("cannot look for waiting rows, will be retried", why=str(error))
                seen = {}
            for name, found in seen.items():
                try:
                    await self._look_after(name, found)
                except StaleState:
                    continue  # another replica was quicker
                except (Retryable, RedisError) as error:
                    log.warning("cannot write waiting rows out, will be retried", pipeline=name, why=str(error))
                    await asyncio.sleep(self._settings.poll_seconds)
            await asyncio.sleep(self._settings.poll_seconds)

    async def _look_after(self, pipeline: str, found: Glance) -> None:
        spec = await self._pipelines.spec(pipeline)
        if spec and found.waiting:
            await self.flush(spec)
        if found.version:
            await self._copying.copy(pipeline, found.version)

    async def flush(self, spec: PipelineSpec) -> None:
        """Write out what is due now. Raises StoreUnavailable, StaleState, redis errors; may be repeated."""
        keys = Keys(self._bus.namespace, spec.name)
        redis = self._bus.nodes.of(keys.alert)
        alert = await redis.get(keys.alert) == b"1"
        patience = spec.drift.feedback_seconds
        if alert:
            patience = min(patience, self._settings.alert_seconds)
        feedback = Spool(self._bus.mailbox, keys.feedback)
        if await self._due(feedback, spec.drift.feedback_rows, patience):
            dumped: Any = await redis.get(keys.held)
            held = Held.load(dumped)
            await self._send_back(spec.name, feedback, held, time.time() - spec.drift.feedback_seconds)
        answers = Spool(self._bus.mailbox, keys.log)
        if await self._due(answers, self._settings.log_rows, self._settings.log_seconds):
            await self._log(spec.name, answers)

    async def _due(self, spool: Spool, rows_wanted: int, patience: float) -> bool:
        count, oldest, unsettled = await spool.waiting()
        if not count or oldest is None:
            return False
        return unsettled or count >= rows_wanted or time.time() - rows.waiting_since(oldest) >= patience

    async def _send_back(self, pipeline: str, spool: Spool, held: Held, before: float) -> None:
        taken = await spool.take(_MOST_ROWS, lambda items: held.ready(items, before=before))
        if taken is None:
            return
        sound, doubtful = held.split(taken.items)
        if doubtful:
            await self._put_aside(pipeline, doubtful)
        events = [await self._arrived(pipeline, sound)] if sound else []
        await spool.settle(taken, events)
        for event in events:
            log.info("labelled rows sent back as new data", pipeline=pipeline, rows=len(sound), event=event.id)

    async def _put_aside(self, pipeline: str, items: list[bytes]) -> None:
        data, _ = rows.feedback_lines(items)
        key = monitoring_key(pipeline, f"held/{hashlib.sha256(data).hexdigest()}.jsonl")
        await self._store.put(key, data)
        log.warning("labelled rows of broken data are put aside", pipeline=pipeline, rows=len(items), object=key)

    async def _arrived(self, pipeline: str, items: list[bytes]) -> DataArrived:
        """The rows as an object and an accepted event."""
        data, newest = rows.feedback_lines(items)
        sha256 = hashlib.sha256(data).hexdigest()
        ref = await self._store.put(raw_key(pipeline, sha256, ".jsonl"), data)
        event = DataArrived.root(
            ArrivedData(
                uri=f"s3://{self._store.bucket}/{ref.key}",
                sha256=sha256,
                size=ref.size,
                format="jsonl",
                origin="feedback",
                rows=len(items),
            ),
            subject=pipeline,
            source="urn:tidemill:monitoring",
            id=content_id(pipeline, sha256),
            time=newest,
        )
        await accept(self._store, event)
        return event

    async def _log(self, pipeline: str, spool: Spool) -> None:
        taken = await spool.take(_MOST_ROWS)
        if taken is None:
            return
        # Here, because Arrow is a third of this service's memory and an idle monitor need not hold it.
        from tidemill_monitoring.domain import prediction_log

        answers = [rows.logged(item) for item in taken.items]
        for hour, data in await asyncio.to_thread(prediction_log.parts, answers):
            await self._store.put(prediction_log_key(pipeline, hour, hashlib.sha256(data).hexdigest()), data)
        await spool.settle(taken)
