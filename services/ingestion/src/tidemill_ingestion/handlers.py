"""What ingestion does with new data."""

import asyncio
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from tidemill_contracts.artifacts import (
    ArtifactRef,
    dataset_key,
    dataset_log_prefix,
    inbox_key,
    outcome_key,
)
from tidemill_contracts.dataset import (
    Column,
    DatasetManifest,
    Outcome,
    Part,
    PreparedDataset,
    Profile,
    Reason,
    RejectedDataset,
)
from tidemill_contracts.document import content_version
from tidemill_contracts.events import DataArrived, DatasetPrepared, DatasetRejected
from tidemill_contracts.pipeline import DeclaredPipeline, PipelineSpec
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_ingestion.domain.job import (
    Earlier,
    EarlierPart,
    Feature,
    Job,
    Limits,
    Policy,
    Prepared,
    RefusedFile,
)
from tidemill_ingestion.fetching import Fetched, Fetcher
from tidemill_ingestion.settings import IngestionGroup
from tidemill_ingestion.work import PRELOAD, work
from tidemill_shared.append_log import AppendLog
from tidemill_shared.child import Child
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.store import Store
from tidemill_shared.telemetry import counter

log = logger(__name__)


class Ingestion:
    """One arrival at a time and pipeline: the dataset's history is a line, not a tree."""

    def __init__(self, service: Service, settings: IngestionGroup) -> None:
        self._bus = service.bus
        self._store = service.store
        self._pipelines = service.pipelines
        self._settings = settings
        self._fetcher = Fetcher(service.store, settings)
        self._logs: dict[str, AppendLog[PreparedDataset]] = {}
        # The identities of a head's rows, kept from the preparation that made it; read from its parts when missing.
        self._indexes: dict[str, tuple[str, Path]] = {}
        self._index_folder = Path(mkdtemp(prefix="tidemill-ingestion-"))
        self._code_version = version("tidemill-ingestion")
        self.child = Child(PRELOAD, service="ingestion")

    async def on_data_arrived(self, event: DataArrived) -> DatasetPrepared | DatasetRejected:
        """Accept, prepare or refuse, remember the outcome; the same event again has the same outcome."""
        outcome = await self._store.read_document(outcome_key(event.id), Outcome)
        if outcome is None:
            # A producer that adds events by itself has no inbox entry yet.
            if not await self._store.exists(inbox_key(event.id)):
                await self._store.put(inbox_key(event.id), event.to_json())
            async with self._bus.lock(f"ingestion:{event.pipeline}"):
                outcome = await self._outcome(event)
            await self._store.put_document(outcome_key(event.id), outcome)
        rows = counter("tidemill.ingestion.rows")
        if outcome.prepared:
            made = outcome.prepared
            rows.add(made.new_rows, {"pipeline": event.pipeline, "outcome": "accepted"})
            rows.add(made.quarantined, {"pipeline": event.pipeline, "outcome": "quarantined"})
            return DatasetPrepared.caused_by(event, made, subject=f"{event.pipeline}/{made.version}")
        assert outcome.rejected is not None  # noqa: S101 - an outcome is one of the two
        return DatasetRejected.caused_by(event, outcome.rejected, subject=event.pipeline)

    async def _outcome(self, event: DataArrived) -> Outcome:
        declared = await self._pipelines.declared(event.pipeline)
        if declared is None:
            why = f"no pipeline {event.pipeline!r} is declared: `tidemill declare` it, then publish again"
            return self._rejected(event, (Reason(code="pipeline_not_declared", message=why),))
        head = await self._log(event.pipeline).last()
        if head is not None:
            manifest = await self._store.document(head[1].manifest, DatasetManifest)
            if event.id in manifest.causes:  # it went as far as the log before somebody died
                return Outcome(event_id=event.id, pipeline=event.pipeline, prepared=head[1])
        else:
            manifest = None
        with TemporaryDirectory(prefix="tidemill-ingestion-") as name:
            folder = Path(name)
            fetched = await self._fetcher.fetch(event.data, folder)
            if isinstance(fetched, Reason):
                return self._rejected(event, (fetched,))
            job = await self._job(event, declared.spec, fetched, manifest, head[1].manifest if head else None, folder)
            result = await self.child.run(work, job, timeout_seconds=self._settings.limit_seconds)
            if isinstance(result, RefusedFile):
                return await self._refused(event, result)
            prepared = await self._keep(event, declared, fetched, manifest, head, result)
        return Outcome(event_id=event.id, pipeline=event.pipeline, prepared=prepared)

    def _log(self, pipeline: str) -> AppendLog[PreparedDataset]:
        return self._logs.setdefault(pipeline, AppendLog(self._store, dataset_log_prefix(pipeline), PreparedDataset))

    def _rejected(
        self, event: DataArrived, reasons: tuple[Reason, ...], quarantine: ArtifactRef | None = None
    ) -> Outcome:
        log.info("data rejected", pipeline=event.pipeline, reasons=[r.code for r in reasons])
        rejected = RejectedDataset(
            pipeline=event.pipeline,
            uri=event.data.uri,
            sha256=event.data.sha256,
            origin=event.data.origin,
            reasons=reasons,
            quarantine=quarantine,
        )
        return Outcome(event_id=event.id, pipeline=event.pipeline, rejected=rejected)

    async def _refused(self, event: DataArrived, refused: RefusedFile) -> Outcome:
        reasons = tuple(
            Reason(code=r.code, message=r.message[:1000], column=r.column, count=r.count) for r in refused.reasons
        )
        quarantine = None
        if refused.quarantine:
            key = dataset_key(event.pipeline, content_version(event.data.sha256), "quarantine.parquet")
            quarantine = await self._store.put_file(key, refused.quarantine)
        return self._rejected(event, reasons, quarantine)

    async def _job(
        self,
        event: DataArrived,
        spec: PipelineSpec,
        fetched: Fetched,
        manifest: DatasetManifest | None,
        head: ArtifactRef | None,
        folder: Path,
    ) -> Job:
        return Job(
            file=fetched.path,
            format=fetched.format,
            gzip_expected=fetched.gzipped,
            feedback=event.data.origin == "feedback",
            arrived=event.time,
            policy=policy_of(spec),
            folder=folder / "out",
            earlier=await self._earlier(event.pipeline, manifest),
            limits=Limits(
                self._settings.max_unpacked_bytes, self._settings.max_unpacked_ratio, self._settings.profile_rows
            ),
        )

    async def _earlier(self, pipeline: str, manifest: DatasetManifest | None) -> Earlier:
        if manifest is None:
            return Earlier()
        known = self._indexes.get(pipeline)
        index = known[1] if known and known[0] == manifest.version and known[1].exists() else None
        live = sum(p.rows for p in manifest.parts)
        wanted = min(self._settings.profile_rows, live)
        parts, seen = [], 0
        for part in reversed(manifest.parts):
            # Without an index every part is read for its identities; with one, only those the profile looks at.
            needed = index is None or seen < wanted
            path = await self._store.cached(part.file) if needed else None
            seen += part.rows
            parts.append(EarlierPart(part.split, part.rows, part.first_ordinal, part.last_ordinal, path))
        profile = await self._store.document(manifest.profile, Profile) if manifest.profile else None
        columns = (*profile.columns, profile.target) if profile else ()
        return Earlier(
            features=tuple(Feature(c.name, c.kind) for c in manifest.columns if c.role == "feature"),
            classes=manifest.classes,
            parts=tuple(reversed(parts)),
            from_ordinal=manifest.from_ordinal,
            next_ordinal=manifest.next_ordinal,
            index=index,
            edges={c.name: c.histogram.edges for c in columns if c.histogram},
        )

    async def _keep(
        self,
        event: DataArrived,
        declared: DeclaredPipeline,
        fetched: Fetched,
        before: DatasetManifest | None,
        head: tuple[int, PreparedDataset] | None,
        result: Prepared,
    ) -> PreparedDataset:
        """Artifacts, then the manifest, then the log: a crash between them repeats work and never shows half of it."""
        pipeline, spec = event.pipeline, declared.spec
        kept = [before.parts[k] for k in result.kept] if before else []
        digests = [p.file.sha256 for p in kept] + [p.sha256 for p in result.parts]
        version_ = content_version(declared.version, str(result.from_ordinal), *digests)
        new = [
            Part(
                split=p.split,
                file=await self._store.put_file(dataset_key(pipeline, version_, p.path.name), p.path),
                rows=p.rows,
                first_ordinal=p.first_ordinal,
                last_ordinal=p.last_ordinal,
                time_min=p.time_min,
                time_max=p.time_max,
                origin=event.data.origin,
            )
            for p in result.parts
        ]
        quarantine = None
        if result.quarantine:
            quarantine = await self._store.put_file(
                dataset_key(pipeline, version_, "quarantine.parquet"), result.quarantine
            )
        profile = await self._store.put_document(
            dataset_key(pipeline, version_, "profile.json"), Profile.model_validate(result.profile)
        )
        target_kind = "numeric" if spec.task == "regression" else "categorical"
        manifest = DatasetManifest.model_validate(
            {
                "pipeline": pipeline,
                "version": version_,
                "sequence": (head[0] if head else 0) + 1,
                "task": spec.task,
                "columns": [Column(name=f.name, kind=f.kind, role="feature") for f in result.features]
                + [Column(name=spec.target, kind=target_kind, role="target")],
                "classes": result.classes,
                "parts": [*kept, *new],
                "from_ordinal": result.from_ordinal,
                "next_ordinal": result.next_ordinal,
                "rows": result.rows,
                "new_rows": result.new_rows,
                "quarantined": result.quarantined,
                "coerced": result.coerced,
                "quarantine": quarantine,
                "profile": profile,
                "source": fetched.ref,
                "spec": declared.ref,
                "parent": head[1].manifest if head else None,
                "causes": [event.id],
                "code_version": self._code_version,
            }
        )
        ref = await self._store.put_document(dataset_key(pipeline, version_, "manifest.json"), manifest)
        prepared = PreparedDataset(
            pipeline=pipeline,
            version=version_,
            sequence=manifest.sequence,
            manifest=ref,
            spec=declared.ref,
            rows=manifest.rows,
            new_rows=result.new_rows,
            quarantined=sum(result.quarantined.values()),
            origin=event.data.origin,
            time_min=min((p.time_min for p in result.parts), default=None),
            time_max=max((p.time_max for p in result.parts), default=None),
        )
        await self._log(pipeline).append(manifest.sequence, prepared)
        await asyncio.to_thread(self._remember, pipeline, version_, result.index)
        return prepared

    def _remember(self, pipeline: str, version_: str, index: Path) -> None:
        kept = self._index_folder / f"{pipeline}-{version_}.parquet"
        shutil.copyfile(index, kept)
        old = self._indexes.get(pipeline)
        self._indexes[pipeline] = version_, kept
        if old and old[1] != kept:
            old[1].unlink(missing_ok=True)

    async def forget(self) -> None:
        """Remove what only this process needed."""
        await asyncio.to_thread(shutil.rmtree, self._index_folder, ignore_errors=True)


class Sweeper:
    """Publishes again what was accepted and has no outcome: Redis may have lost it, the inbox has not."""

    def __init__(self, service: Service, settings: IngestionGroup) -> None:
        self._bus = service.bus
        self._store: Store = service.store
        self._settings = settings
        self._seen: dict[str, float] = {}

    async def sweep_for_ever(self) -> None:
        """The background loop."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            try:
                await self.sweep()
            except Exception as error:
                # The next round tries again; what it looks after is safe in the inbox.
                log.warning("cannot sweep the inbox", why=repr(error))

    async def sweep(self) -> int:
        """One round; returns how many events were published again. An entry must be owed for the grace period."""
        done = {key.rpartition("/")[2] for key in await self._store.list("outcomes/")}
        owed = [key for key in await self._store.list("inbox/") if key.rpartition("/")[2] not in done]
        now = asyncio.get_running_loop().time()
        self._seen = {key: self._seen.get(key, now) for key in owed}
        published = 0
        for key in owed:
            if now - self._seen[key] < self._settings.grace_seconds:
                continue
            body = await self._store.read(key)
            if body is None:
                continue
            try:
                event = parse_as(DataArrived, body)
            except InvalidEvent as error:
                log.error("inbox entry is no event", key=key, why=str(error))
                continue
            await self._bus.publish(event)
            self._seen[key] = now
            published += 1
            log.warning("accepted event published again", pipeline=event.pipeline, event=event.id)
        return published


def policy_of(spec: PipelineSpec) -> Policy:
    """The preparation's view of a specification."""
    return Policy(
        task=spec.task,
        target=spec.target,
        features=tuple(Feature(f.name, f.kind) for f in spec.features) if spec.features else None,
        positive=spec.positive,
        exclude=spec.exclude,
        keys=spec.keys,
        time=spec.time,
        train=spec.split.train,
        validation=spec.split.validation,
        window_rows=spec.rows.window_rows if spec.rows.keep == "sliding" else None,
        min_rows=spec.rows.min_rows,
        max_missing=spec.rows.max_missing,
    )
