"""The handler of batches: a child scores, finished parts are stored, and a crash costs at most the part at hand."""

import asyncio
import time
from collections import Counter
from pathlib import Path

from tidemill_contracts.artifacts import ArtifactRef, batch_key
from tidemill_contracts.batch import BatchManifest, BatchPlan, CompletedBatch, FailedBatch
from tidemill_contracts.dataset import Reason
from tidemill_contracts.events import BatchCompleted, BatchFailed, BatchRequested
from tidemill_contracts.package import PackageManifest, Signature
from tidemill_serving.batch_parts import Parts
from tidemill_serving.models import Models
from tidemill_serving.scoring import start
from tidemill_serving.scoring.job import CHUNK_ROWS, Format, Job
from tidemill_serving.scoring.workplace import workplace
from tidemill_serving.settings import ServingGroup
from tidemill_shared.child import Child
from tidemill_shared.errors import ObjectMissing, Poison
from tidemill_shared.log import logger
from tidemill_shared.model_bytes import check_model
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter

log = logger(__name__)
_FORMATS: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv.gz"}


class Batches:
    """Scores one batch at a time."""

    def __init__(self, service: Service, models: Models, settings: ServingGroup) -> None:
        self._bus = service.bus
        self._store = service.store
        self._models = models
        self._settings = settings
        # Arrow and its memory stay out of the process that answers.
        self._child = Child(("tidemill_serving.scoring.work",), service="serving")

    async def stop(self) -> None:
        """A batch at hand goes on elsewhere, or after the restart."""
        await self._child.stop()

    async def on_batch_requested(self, event: BatchRequested) -> BatchCompleted | BatchFailed:
        """Score, store, announce. Whoever takes it up after a crash goes on after the last finished part."""
        started = time.monotonic()
        try:
            plan = await self._plan(event)
            parts = await Parts.of(self._bus, self._store, event, plan)
            with workplace(self._settings.batch_directory) as folder:
                await self._score(event, plan, parts, folder)
        except (Poison, ObjectMissing) as error:
            return self._failed(event, error)
        return await self._completed(event, plan, parts, time.monotonic() - started)

    def _failed(self, event: BatchRequested, error: Poison | ObjectMissing) -> BatchFailed:
        code = error.code if isinstance(error, Poison) else "missing_object"
        log.warning("batch failed", pipeline=event.pipeline, batch=event.id, code=code)
        counter("tidemill.serving.batches").add(1, {"pipeline": event.pipeline, "outcome": "failed"})
        failed = FailedBatch(batch=event.id, reasons=(Reason(code=code, message=str(error)[:1000]),))
        return BatchFailed.caused_by(event, failed, subject=event.pipeline)

    async def _plan(self, event: BatchRequested) -> BatchPlan:
        """What the batch is scored with; the first to take it up decides, so that all of it is one model's."""
        key = batch_key(event.pipeline, event.id, "plan.json")
        async with self._bus.lock(f"batch-{event.id}"):
            plan = await self._store.read_document(key, BatchPlan)
            if plan:
                return plan
            loaded = await self._models.ensure(event.pipeline)
            if loaded is None:
                raise Poison("no_model", "no model has been promoted for this pipeline yet")
            rows = self._settings.batch_part_rows
            plan = BatchPlan(
                batch=event.id,
                model_version=loaded.version,
                dataset_version=loaded.dataset_version,
                promotion=loaded.sequence,
                part_rows=rows if rows <= CHUNK_ROWS else rows // CHUNK_ROWS * CHUNK_ROWS,
            )
            await self._store.put_document(key, plan)
        return plan

    async def _package(self, event: BatchRequested, plan: BatchPlan) -> tuple[ArtifactRef, PackageManifest]:
        """Proven anew: the plan lies in the bucket, and whoever can write there shall not choose the model."""
        judged, package = await self._models.package(event.pipeline, plan.promotion)
        if package.version != plan.model_version:
            raise Poison(
                "plan", f"promotion {plan.promotion} is of {package.version}, the plan of {plan.model_version}"
            )
        return judged, package

    async def _score(self, event: BatchRequested, plan: BatchPlan, parts: Parts, folder: Path) -> None:
        source = event.data.input
        format_ = next((f for suffix, f in reversed(_FORMATS.items()) if source.key.endswith(suffix)), None)
        if format_ is None:
            raise Poison("unknown_format", f"{source.key}: one of {', '.join(_FORMATS)} is expected")
        _, package = await self._package(event, plan)
        onnx = await self._store.get_file(package.files["model.onnx"], folder / "model.onnx")
        await asyncio.to_thread(lambda: check_model(onnx.read_bytes()))
        job = Job(
            folder=folder,
            input=await self._store.get_file(source, folder / "input"),
            format=format_,
            row_id=event.data.row_id,
            onnx=onnx,
            signature=await self._store.get_file(package.files["signature.json"], folder / "signature.json"),
            model_version=plan.model_version,
            part_rows=plan.part_rows,
            first_part=len(parts.done),
            threads=self._settings.threads,
        )
        log.info("scoring", pipeline=event.pipeline, batch=event.id, model=plan.model_version, part=job.first_part)
        refusal = await self._child.run(start.score, job, on_progress=parts.keep)
        if refusal:
            raise Poison(refusal.code, refusal.message)

    async def _completed(self, event: BatchRequested, plan: BatchPlan, parts: Parts, seconds: float) -> BatchCompleted:
        judged, package = await self._package(event, plan)
        signature = await self._store.document(package.files["signature.json"], Signature)
        rows, failed = sum(p.rows for p in parts.done), sum(p.failed for p in parts.done)
        manifest = BatchManifest(
            pipeline=event.pipeline,
            batch=event.id,
            input=event.data.input,
            package=judged,
            model_version=plan.model_version,
            dataset_version=plan.dataset_version,
            classes=signature.classes,
            parts=tuple(parts.done),
            rows=rows,
            failed=failed,
            errors=dict(sum((Counter(p.errors) for p in parts.done), Counter[str]())),
        )
        ref = await self._store.put_document(batch_key(event.pipeline, event.id, "manifest.json"), manifest)
        counter("tidemill.serving.batches").add(1, {"pipeline": event.pipeline, "outcome": "completed"})
        log.info("batch scored", pipeline=event.pipeline, batch=event.id, rows=rows, failed=failed)
        completed = CompletedBatch(
            batch=event.id,
            input=event.data.input,
            manifest=ref,
            model_version=plan.model_version,
            dataset_version=plan.dataset_version,
            parts=len(parts.done),
            rows=rows,
            failed=failed,
            seconds=round(seconds, 3),
        )
        return BatchCompleted.caused_by(event, completed, subject=event.pipeline)
