"""What ingestion does with new data."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill_contracts.artifacts import dataset_key, outcome_key
from tidemill_contracts.dataset import Outcome, PreparedDataset, RejectedDataset
from tidemill_contracts.document import content_version
from tidemill_contracts.events import DataArrived, DatasetPrepared, DatasetRejected
from tidemill_contracts.pipeline import DeclaredPipeline
from tidemill_contracts.streams import state_key
from tidemill_ingestion.domain.job import Earlier, Job, Limits, Prepared, Refusal, Refused, RefusedFile
from tidemill_ingestion.fetching import Fetched, fetch
from tidemill_ingestion.history import Head, History
from tidemill_ingestion.keeping import keep
from tidemill_ingestion.settings import IngestionGroup
from tidemill_ingestion.translation import fixed_features, policy_of, rejected
from tidemill_ingestion.work import PRELOAD, work
from tidemill_shared.child import Bounds, Child, most_memory
from tidemill_shared.errors import ChildDied
from tidemill_shared.inbox import accept
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter, histogram

log = logger(__name__)
_DEATHS = 3
"""A file whose preparation was killed this often is refused: it will not fit the next time either."""
_DEATHS_SECONDS = 86_400


class Ingestion:
    """One arrival at a time and pipeline: the dataset's history is a line, not a tree."""

    def __init__(self, service: Service, settings: IngestionGroup) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._settings = settings
        self.history = History(service.store)
        bounds = Bounds(
            memory_bytes=settings.memory_bytes or most_memory(),
            cpu_seconds=int(settings.limit_seconds * (os.cpu_count() or 1)) + 1,
            file_bytes=2 * settings.max_unpacked_bytes,
        )
        self.child = Child(PRELOAD, service="ingestion", bounds=bounds)

    async def on_data_arrived(self, event: DataArrived) -> DatasetPrepared | DatasetRejected:
        """Accept, prepare or refuse, remember the outcome; the same event again has the same outcome."""
        await accept(self._store, event)  # a producer that adds events by itself has no inbox entry yet
        outcome = await self._settled(event.id)
        if outcome is None:
            patience = self._settings.patience_seconds
            async with self._bus.lock(f"ingestion:{event.pipeline}", patience_seconds=patience):
                outcome = await self._settled(event.id) or await self._settle(event)
        if outcome.prepared:
            subject = f"{event.pipeline}/{outcome.prepared.version}"
            return DatasetPrepared.caused_by(event, outcome.prepared, subject=subject)
        assert outcome.rejected is not None  # noqa: S101 - an outcome is one of the two
        return DatasetRejected.caused_by(event, outcome.rejected, subject=event.pipeline)

    async def _settled(self, event_id: str) -> Outcome | None:
        return await self._store.read_document(outcome_key(event_id), Outcome)

    async def _settle(self, event: DataArrived) -> Outcome:
        head = await self.history.head(event.pipeline)
        healed = await self._heal(head, event.id) if head else None
        if healed:
            return healed
        started = time.perf_counter()
        try:
            result = await self._prepare(event, head)
        except Refused as refused:
            result = rejected(event.pipeline, event.data, [refused.refusal])
        histogram("tidemill.ingestion.duration").record(time.perf_counter() - started, {"pipeline": event.pipeline})
        self._count(event.pipeline, result)
        prepared, refusal = (result, None) if isinstance(result, PreparedDataset) else (None, result)
        return await self._conclude(
            Outcome(event_id=event.id, pipeline=event.pipeline, prepared=prepared, rejected=refusal)
        )

    async def _heal(self, head: Head, event_id: str) -> Outcome | None:
        """Write the outcome that a crash right after the log left out, whoever's it is: once the log has a next
        entry nobody would find it, and its rows would look like duplicates. Returns it when it is this event's."""
        mine = None
        for cause in head.manifest.causes:
            if await self._settled(cause) is None:
                outcome = Outcome(event_id=cause, pipeline=head.prepared.pipeline, prepared=head.prepared)
                await self._conclude(outcome)
                mine = outcome if cause == event_id else mine
        return mine

    async def _conclude(self, outcome: Outcome) -> Outcome:
        await self._store.put_document(outcome_key(outcome.event_id), outcome)
        return outcome

    async def _prepare(self, event: DataArrived, head: Head | None) -> PreparedDataset | RejectedDataset:
        """Raises Refused for what is known before the file is opened."""
        declared = await self._pipelines.declared(event.pipeline)
        if declared is None:
            message = f"No pipeline {event.pipeline!r} is declared: declare it, then publish again."
            raise Refused("pipeline_not_declared", message)
        with TemporaryDirectory(prefix="tidemill-ingestion-") as name:
            folder = Path(name)
            fetched = await fetch(self._store, event.data, folder / "raw", max_bytes=self._settings.max_bytes)
            job = await self._job(event, declared, fetched, head, folder)
            result = await self._run(event, job)
            if isinstance(result, RefusedFile):
                return await self._refused(event, result)
            prepared = await keep(self._store, event, declared, fetched.ref, head, result)
            await self.history.append(prepared, result.index)
            return prepared

    async def _job(
        self, event: DataArrived, declared: DeclaredPipeline, fetched: Fetched, head: Head | None, folder: Path
    ) -> Job:
        settings, policy = self._settings, policy_of(declared.spec)
        earlier = Earlier()
        if head:
            earlier = await self.history.earlier(
                head.manifest,
                fixed_features(head.manifest, declared.spec),
                folder,
                profile_rows=settings.profile_rows,
                slides=policy.window_rows is not None,
            )
        return Job(
            file=fetched.path,
            format=fetched.format,
            gzip_expected=fetched.gzipped,
            feedback=event.data.origin == "feedback",
            arrived=event.time,
            policy=policy,
            folder=folder / "made",
            earlier=earlier,
            limits=Limits(
                unpacked_bytes=settings.max_unpacked_bytes,
                unpacked_ratio=settings.max_unpacked_ratio,
                profile_rows=settings.profile_rows,
                rows=settings.max_rows,
                columns=settings.max_columns,
                field_bytes=settings.max_field_bytes,
            ),
        )

    async def _run(self, event: DataArrived, job: Job) -> Prepared | RefusedFile:
        seconds = self._settings.limit_seconds
        try:
            return await self.child.run(work, job, timeout_seconds=seconds)
        except TimeoutError:
            return RefusedFile((Refusal("too_slow", f"The file took longer than {seconds:g} seconds: split it."),))
        except ChildDied:
            key = state_key(self._bus.namespace, "ingestion", f"deaths:{event.id}")
            deaths = await self._bus.redis.incr(key)
            await self._bus.redis.expire(key, _DEATHS_SECONDS)
            if deaths < _DEATHS:
                raise
            message = f"Its preparation was killed {deaths} times, most likely for want of memory: split the file."
            return RefusedFile((Refusal("out_of_memory", message),))

    async def _refused(self, event: DataArrived, refused: RefusedFile) -> RejectedDataset:
        quarantine = None
        if refused.quarantine:
            key = dataset_key(event.pipeline, content_version("refused", event.data.sha256), "quarantine.parquet")
            quarantine = await self._store.put_file(key, refused.quarantine)
        return rejected(event.pipeline, event.data, refused.reasons, quarantine)

    def _count(self, pipeline: str, result: PreparedDataset | RejectedDataset) -> None:
        rows = counter("tidemill.ingestion.rows")
        if isinstance(result, PreparedDataset):
            log.info("dataset prepared", pipeline=pipeline, version=result.version, rows=result.new_rows)
            rows.add(result.new_rows, {"pipeline": pipeline, "outcome": "accepted"})
            rows.add(result.quarantined, {"pipeline": pipeline, "outcome": "quarantined"})
        else:
            log.info("data rejected", pipeline=pipeline, reasons=[reason.code for reason in result.reasons])
