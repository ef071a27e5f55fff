"""What the trainer does with each event."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tidemill_contracts.artifacts import model_key
from tidemill_contracts.dataset import DatasetManifest, Reason
from tidemill_contracts.document import content_version
from tidemill_contracts.envelope import child_id
from tidemill_contracts.events import (
    DatasetPrepared,
    DriftDetected,
    ModelTrained,
    PerformanceDegraded,
    TrainingFailed,
    TrainingGranted,
    TrainingProgressed,
    TrainingRequested,
)
from tidemill_contracts.model import (
    CalibrationBin,
    Evaluation,
    Explanation,
    FailedTraining,
    Importance,
    ModelManifest,
    TrainedModel,
    TrainingProgress,
)
from tidemill_contracts.pipeline import Feature, PipelineSpec
from tidemill_shared.child import Child
from tidemill_shared.errors import ChildDied
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter, histogram
from tidemill_training.domain.governor import Decision, Policy, Refusal, State, Trigger, advance, ask, finish, remember
from tidemill_training.governing import Governing, run_id, trigger_of
from tidemill_training.job import Job, Trained, Unfit
from tidemill_training.settings import TrainingGroup
from tidemill_training.work import PRELOAD, train

log = logger(__name__)


class Triggers:
    """Handlers that only ask the governor: they answer at once, whatever is being trained."""

    def __init__(self, service: Service, settings: TrainingGroup) -> None:
        self._service = service
        self._settings = settings
        self._governing = Governing(service.bus, service.store, service.pipelines)

    async def on_dataset_prepared(self, event: DatasetPrepared) -> None:
        """New rows: the first training, a training by number of rows, or what a waiting trigger waited for."""

        async def change(state: State, policy: Policy) -> tuple[State, Decision]:
            if event.id in state.handled:
                return state, None
            uploaded = state.uploaded_rows + (event.data.new_rows if event.data.origin == "upload" else 0)
            state = replace(remember(state, event.id), dataset=event.data.version, uploaded_rows=uploaded)
            if state.trained == 0 and state.running is None and state.queued is None:
                return await self._ask(state, policy, trigger_of(event, "first_data", reason="first data"))
            if state.trained and policy.new_rows and uploaded >= policy.new_rows:
                trigger = trigger_of(event, "new_data", reason=f"{uploaded} new rows")
                return await self._ask(state, policy, trigger)
            return await self._advance(event.pipeline, state, policy)

        await self._governing.change(event.pipeline, change)

    async def on_training_requested(self, event: TrainingRequested) -> None:
        """A person asks."""
        rows = event.data.rows
        trigger = trigger_of(
            event,
            "operator",
            since=rows.since,
            newest=rows.newest,
            force=event.data.force,
            reason=event.data.reason,
        )
        await self._trigger(event.pipeline, trigger)

    async def on_drift_detected(self, event: DriftDetected) -> None:
        """The monitor noticed a change: train on what has arrived since, once there is enough of it."""
        trigger = trigger_of(
            event,
            "drift",
            since=event.data.noticed_at,
            reason=f"{event.data.kind} drift noticed {event.data.noticed_at}",
        )
        await self._trigger(event.pipeline, trigger, event.data.kind, event.data.model_version)

    async def on_performance_degraded(self, event: PerformanceDegraded) -> None:
        """The realized score fell below its baseline."""
        reason = f"{event.data.metric} {event.data.score:.3f}, baseline {event.data.baseline:.3f}"
        trigger = trigger_of(event, "performance", since=event.data.noticed_at, reason=reason)
        await self._trigger(event.pipeline, trigger, "performance", event.data.model_version)

    async def on_model_trained(self, event: ModelTrained) -> None:
        """A run has ended with a model."""
        await self._finished(event.pipeline, event.causationid, succeeded=True)

    async def on_training_failed(self, event: TrainingFailed) -> None:
        """A run has ended without one."""
        await self._finished(event.pipeline, event.causationid, succeeded=False)

    async def tick(self) -> None:
        """Look at waiting triggers: their cool-down may be over, their patience too."""
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            for pipeline in self._service.pipelines.names():

                async def change(state: State, policy: Policy, name: str = pipeline) -> tuple[State, Decision]:
                    overdue = (
                        state.running_since
                        and (datetime.now(UTC) - state.running_since).total_seconds() > 2 * self._settings.limit_seconds
                    )
                    if state.running and overdue:
                        log.error("a training never ended; its place is free again", pipeline=name, run=state.running)
                        state = finish(state, state.running, datetime.now(UTC), succeeded=False)
                    return await self._advance(name, state, policy)

                try:
                    await self._governing.change(pipeline, change)
                except Exception as error:
                    # The next tick tries again; a trigger that cannot be looked at must not end the service.
                    log.warning("cannot look at waiting triggers", pipeline=pipeline, why=repr(error))

    async def _trigger(
        self, pipeline: str, trigger: Trigger, kind: str | None = None, about: str | None = None
    ) -> None:
        async def change(state: State, policy: Policy) -> tuple[State, Decision]:
            if trigger.id in state.handled:
                return state, None
            spec = await self._service.pipelines.spec(pipeline)
            if spec and kind and kind not in spec.retrain.triggers:
                why = f"{kind} drift alone does not retrain this pipeline (retrain.triggers)"
                return remember(state, trigger.id), Refusal(trigger, "policy", why, queued=False)
            if about and about != await self._governing.champion(pipeline):
                why = f"it is about model {about}, which is champion no longer"
                return remember(state, trigger.id), Refusal(trigger, "stale", why, queued=False)
            return await self._ask(state, policy, trigger, pipeline)

        await self._governing.change(pipeline, change)

    async def _ask(
        self, state: State, policy: Policy, trigger: Trigger, pipeline: str | None = None
    ) -> tuple[State, Decision]:
        rows = await self._governing.rows(pipeline, trigger.since) if pipeline and trigger.since else 0
        return ask(state, trigger, policy, rows, datetime.now(UTC))

    async def _advance(self, pipeline: str, state: State, policy: Policy) -> tuple[State, Decision]:
        if state.queued is None:
            return state, None
        rows = await self._governing.rows(pipeline, state.queued.since)
        return advance(state, policy, rows, datetime.now(UTC))

    async def _finished(self, pipeline: str, run: str | None, *, succeeded: bool) -> None:
        async def change(state: State, policy: Policy) -> tuple[State, Decision]:
            if state.running is None or run_id(state.running, pipeline) != run:
                return state, None
            state = finish(state, state.running, datetime.now(UTC), succeeded=succeeded)
            return await self._advance(pipeline, state, policy)

        await self._governing.change(pipeline, change)


class Trainer:
    """The handler that trains: in a child process, while the bus renews the lease of the granted event."""

    def __init__(self, service: Service, settings: TrainingGroup, code_version: str) -> None:
        self._bus = service.bus
        self._store = service.store
        self._settings = settings
        self._code_version = code_version
        self.child = Child(PRELOAD, service="training")

    async def on_training_granted(self, event: TrainingGranted) -> ModelTrained | TrainingFailed:
        """Train, store, announce."""
        started = time.monotonic()
        manifest = await self._store.document(event.data.dataset, DatasetManifest)
        spec = await self._store.document(event.data.spec, PipelineSpec)
        with TemporaryDirectory(prefix="tidemill-training-") as folder:
            job = await self._job(event, manifest, spec, Path(folder))
            try:
                result = await self.child.run(
                    train,
                    job,
                    on_progress=self._reporter(event, started),
                    timeout_seconds=self._settings.limit_seconds,
                )
            except (ChildDied, TimeoutError) as error:
                result = Unfit("child_died" if isinstance(error, ChildDied) else "too_slow", str(error) or "time is up")
            if isinstance(result, Unfit):
                counter("tidemill.training.runs").add(1, {"pipeline": event.pipeline, "outcome": "failed"})
                log.warning("training failed", pipeline=event.pipeline, run=event.id, why=result.message)
                failed = FailedTraining(
                    run=event.id,
                    trigger=event.data.trigger,
                    dataset=manifest.version,
                    reasons=(Reason(code=result.code, message=result.message[:1000]),),
                )
                return TrainingFailed.caused_by(event, failed, subject=event.pipeline)
            model = await self._keep(event, manifest, spec, job, result, started)
        counter("tidemill.training.runs").add(1, {"pipeline": event.pipeline, "outcome": "trained"})
        histogram("tidemill.training.duration").record(time.monotonic() - started, {"pipeline": event.pipeline})
        return ModelTrained.caused_by(event, model, subject=f"{event.pipeline}/{model.version}")

    def _reporter(self, event: TrainingGranted, started: float) -> Any:
        last: dict[str, Any] = {"stage": None, "at": 0.0, "number": 0}

        async def report(value: dict[str, Any]) -> None:
            now = time.monotonic()
            if value["stage"] == last["stage"] and now - last["at"] < self._settings.progress_seconds:
                return
            last.update(stage=value["stage"], at=now, number=last["number"] + 1)
            progress = TrainingProgress(run=event.id, seconds=round(now - started, 3), **value)
            await self._bus.publish(
                TrainingProgressed.root(
                    progress,
                    subject=event.pipeline,
                    source="urn:tidemill:training",
                    id=child_id(event.id, TrainingProgressed.type_name(), f"{event.pipeline} {last['number']}"),
                ).model_copy(update={"causationid": event.id, "correlationid": event.correlationid or event.id})
            )

        return report

    async def _job(self, event: TrainingGranted, manifest: DatasetManifest, spec: PipelineSpec, folder: Path) -> Job:
        async def paths(split: str) -> tuple[Path, ...]:
            parts = [p for p in manifest.parts if p.split == split and p.last_ordinal >= manifest.from_ordinal]
            since = event.data.rows.since
            parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
            return tuple([await self._store.cached(p.file) for p in parts])

        features = [c for c in manifest.columns if c.role == "feature"]
        return Job(
            folder=folder,
            task=manifest.task,
            metric=spec.primary,
            target=spec.target,
            classes=manifest.classes,
            positive=spec.positive,
            numeric=tuple(c.name for c in features if c.kind == "numeric"),
            categorical=tuple(c.name for c in features if c.kind == "categorical"),
            train=await paths("train"),
            validation=await paths("validation"),
            from_ordinal=manifest.from_ordinal,
            since=event.data.rows.since,
            newest=event.data.rows.newest,
            families=spec.search.families,
            trials=spec.search.trials,
            seconds=spec.search.seconds,
            seed=spec.search.seed,
            jobs=self._settings.jobs,
            importance_rows=self._settings.importance_rows,
            importance_seconds=self._settings.importance_seconds,
        )

    async def _keep(
        self,
        event: TrainingGranted,
        dataset: DatasetManifest,
        spec: PipelineSpec,
        job: Job,
        result: Trained,
        started: float,
    ) -> TrainedModel:
        data = (job.folder / "model.skops").read_bytes()
        selection = event.data.rows
        version = content_version(
            dataset.version, spec.version, selection.to_json(), str(job.seed), self._code_version, data
        )
        pipeline = event.pipeline
        evaluation = Evaluation(
            rows=result.rows["validation"],
            metrics=result.metrics,
            baseline=result.baseline,
            calibration=tuple(CalibrationBin(predicted=p, observed=o, rows=n) for p, o, n in result.calibration),
            confusion=result.confusion,
            trials=result.trials,
        )
        explanation = Explanation(
            metric=job.metric,
            importances=tuple(Importance(feature=f, mean=m, std=s) for f, m, s in result.importances),
        )
        files = {
            "model.skops": await self._store.put(model_key(pipeline, version, "model.skops"), data),
            "evaluation.json": await self._store.put_document(
                model_key(pipeline, version, "evaluation.json"), evaluation
            ),
            "explanation.json": await self._store.put_document(
                model_key(pipeline, version, "explanation.json"), explanation
            ),
        }
        positive = spec.positive if spec.positive in dataset.classes else None
        if positive is None and len(dataset.classes) == 2:
            positive = dataset.classes[-1]
        manifest = ModelManifest(
            pipeline=pipeline,
            version=version,
            task=dataset.task,
            family=result.family,
            parameters=result.parameters,
            features=tuple(
                [Feature(name=n, kind="numeric") for n in job.numeric]
                + [Feature(name=n, kind="categorical") for n in job.categorical]
            ),
            categories=result.categories,
            target=spec.target,
            classes=dataset.classes,
            positive=positive,
            files=files,
            metrics=result.metrics,
            dataset=event.data.dataset,
            dataset_version=dataset.version,
            selection=selection,
            rows=result.rows,
            spec=event.data.spec,
            trigger=event.data.trigger,
            causes=(event.id,),
            seed=job.seed,
            code_version=self._code_version,
            environment=result.environment,
        )
        ref = await self._store.put(model_key(pipeline, version, "manifest.json"), manifest.to_json())
        return TrainedModel(
            pipeline=pipeline,
            version=version,
            manifest=ref,
            dataset_version=dataset.version,
            family=result.family,
            metrics=result.metrics,
            rows=result.rows,
            trigger=event.data.trigger,
            seconds=round(time.monotonic() - started, 3),
        )
