"""The handler of large tables: a child reads the Arrow object and answers it, and the first answer to an id stands."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from tidemill_contracts.artifacts import ArtifactRef, table_answer_key, table_inputs_prefix, table_result_key
from tidemill_contracts.dataset import Reason
from tidemill_contracts.events import TableCompleted, TableFailed, TableRequested
from tidemill_contracts.package import Signature
from tidemill_contracts.registry import InvalidEvent, parse_as
from tidemill_contracts.table import CompletedTable, FailedTable
from tidemill_serving.models import Models
from tidemill_serving.scoring import start
from tidemill_serving.scoring.job import TableJob, Unreadable
from tidemill_serving.scoring.workplace import workplace
from tidemill_serving.settings import ServingGroup
from tidemill_shared.child import Bounds, Child
from tidemill_shared.delivery import Completion, Delivery
from tidemill_shared.errors import ObjectMissing, Poison
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.store import file_reference
from tidemill_shared.telemetry import counter, traced

log = logger(__name__)
_CHILD_BYTES = 2 * 1024**3
"""Memory of the child: a compressed table may unfold into much more than its size."""
_CHILD_SECONDS = 300
"""Of a processor, and of the clock."""


class LargeTables:
    """Answers one table at a time, off the path of the prediction streams."""

    def __init__(self, service: Service, models: Models, settings: ServingGroup) -> None:
        self._bus = service.bus
        self._store = service.store
        self._models = models
        self._settings = settings
        bounds = Bounds(memory_bytes=_CHILD_BYTES, cpu_seconds=_CHILD_SECONDS)
        self._turn = asyncio.Semaphore(1)
        # What strangers wrote is read where it can break nothing: Arrow stays out of the process that answers.
        self._child = Child(("tidemill_serving.scoring.work",), service="serving", bounds=bounds)

    async def stop(self) -> None:
        """A table at hand is answered elsewhere, or after the restart."""
        await self._child.stop()

    async def on_batch(self, pipeline: str, batch: list[Delivery]) -> Completion:
        """Each table gets one answer; what is no request goes to the dead letters."""
        completion = Completion()
        for delivery in batch:
            try:
                event = parse_as(TableRequested, delivery.body)
                if event.pipeline != pipeline:
                    raise InvalidEvent("invalid", f"subject {event.subject!r} in the stream of {pipeline!r}")
            except InvalidEvent as error:
                completion.dead.append((delivery, error.code, str(error)))
                continue
            completion.outputs.append((delivery, [traced(await self._told(event), event)]))
        return completion

    async def _told(self, event: TableRequested) -> TableCompleted | TableFailed:
        """Verify, read, answer, store. Repeated with the same id it says the same again."""
        try:
            async with self._turn:
                answer = await self._answer(event)
        except (Poison, ObjectMissing) as error:
            return self._failed(event, error)
        counted = counter("tidemill.serving.predictions")
        counted.add(answer.rows - answer.refused, {"pipeline": event.pipeline, "outcome": "completed"})
        counted.add(answer.refused, {"pipeline": event.pipeline, "outcome": "failed"})
        return TableCompleted.caused_by(event, answer, subject=event.pipeline, time=event.time)

    @staticmethod
    def _failed(event: TableRequested, error: Poison | ObjectMissing) -> TableFailed:
        code = error.code if isinstance(error, Poison) else "missing_object"
        log.warning("table refused", pipeline=event.pipeline, table=event.id, code=code)
        failed = FailedTable(table_id=event.id, reasons=(Reason(code=code, message=str(error)[:1000]),))
        return TableFailed.caused_by(event, failed, subject=event.pipeline, time=event.time)

    async def _answer(self, event: TableRequested) -> CompletedTable:
        key = table_answer_key(event.pipeline, event.id)
        async with self._bus.lock(f"table-{event.id}"):
            known = await self._store.read_document(key, CompletedTable)
            if known is None:
                known = await self._fresh(event)
                await self._store.put_document(key, known)
        if known.table != event.data.table:
            raise Poison("id_reused", "another table was answered under this id: an id names one table")
        return known

    async def _fresh(self, event: TableRequested) -> CompletedTable:
        self._check(event)
        loaded = await self._models.ensure(event.pipeline)
        if loaded is None:
            raise Poison("no_model", "no model has been promoted for this pipeline yet")
        _, package = await self._models.package(event.pipeline, loaded.sequence)
        signature = package.files["signature.json"]
        with workplace(self._settings.batch_directory) as folder:
            job = TableJob(
                input=await self._store.get_file(event.data.table, folder / "input"),
                output=folder / "result",
                # Checked when it was loaded: the digest is the same.
                onnx=await self._store.cached(package.files["model.onnx"]),
                signature=await self._store.cached(signature),
                model_version=loaded.version,
                most_rows=self._settings.table_rows,
                threads=self._settings.threads,
            )
            answered = await self._child.run(start.answer_table, job, timeout_seconds=_CHILD_SECONDS)
            if isinstance(answered, Unreadable):
                raise Poison(answered.code, answered.message)
            result = await self._keep(event.pipeline, job.output)
        return CompletedTable(
            table_id=event.id,
            table=event.data.table,
            result=result,
            rows=answered.rows,
            refused=sum(answered.errors.values()),
            errors=answered.errors,
            classes=(await self._store.document(signature, Signature)).classes,
            model_version=loaded.version,
            dataset_version=loaded.dataset_version,
        )

    def _check(self, event: TableRequested) -> None:
        """What can be told before anything is read."""
        table, prefix = event.data.table, table_inputs_prefix(event.pipeline)
        if event.data.expires_at is not None and event.data.expires_at < datetime.now(UTC):
            raise Poison("expired", "the request had expired before its turn came")
        if not table.key.startswith(prefix):
            raise Poison("elsewhere", f"{table.key}: a table of this pipeline lies below {prefix}")
        if table.size > self._settings.table_bytes:
            most = self._settings.table_bytes
            raise Poison("too_large", f"{table.size} bytes; a table may have {most}: ask in parts, or a batch")

    async def _keep(self, pipeline: str, path: Path) -> ArtifactRef:
        ref = await asyncio.to_thread(file_reference, "x", path)
        return await self._store.put_file(table_result_key(pipeline, ref.sha256), path)
