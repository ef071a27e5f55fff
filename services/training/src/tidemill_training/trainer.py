"""The handler that trains: in a child process, while the bus renews the lease of the granted event."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill_contracts.dataset import DatasetManifest, Part, Reason
from tidemill_contracts.events import ModelTrained, TrainingFailed, TrainingGranted
from tidemill_contracts.model import FailedTraining
from tidemill_contracts.pipeline import PipelineSpec, Scalar
from tidemill_shared.child import Child
from tidemill_shared.errors import Poison
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.telemetry import counter, histogram
from tidemill_training.domain import governor
from tidemill_training.domain.state import Policy, Refusal, Run, State, Trigger
from tidemill_training.governing import Governing
from tidemill_training.job import SEVERAL, Job, Trained, Unfit
from tidemill_training.keeping import keep
from tidemill_training.progress import Progress
from tidemill_training.settings import TrainingGroup
from tidemill_training.work import train

log = logger(__name__)


class Trainer:
    """Takes granted trainings, one per pipeline at a time."""

    def __init__(
        self, service: Service, settings: TrainingGroup, governing: Governing, child: Child, code_version: str
    ) -> None:
        self._bus = service.bus
        self._store = service.store
        self._settings = settings
        self._governing = governing
        self._child = child
        self._code_version = code_version
        self._places = asyncio.Semaphore(settings.concurrency)

    async def on_training_granted(self, event: TrainingGranted) -> ModelTrained | TrainingFailed:
        """Train, store, announce. A killed process or service repeats it, a bounded number of times."""
        async with self._places:
            started = time.monotonic()
            outcome = await self._begin(event) or await self._train(event, started)
        failed = isinstance(outcome, TrainingFailed)
        labels = {"pipeline": event.pipeline}
        counter("tidemill.training.runs").add(1, labels | {"outcome": "failed" if failed else "trained"})
        histogram("tidemill.training.duration").record(time.monotonic() - started, labels)
        return outcome

    async def _begin(self, event: TrainingGranted) -> TrainingFailed | None:
        """Count the attempt. Fails a training of which there were too many, or whose place another one has."""
        granted = event.data
        trigger = Trigger(event.causationid or event.id, granted.trigger, event.time, since=granted.rows.since)
        run = Run(event.id, trigger, event.time, granted.dataset_version)

        def change(state: State, policy: Policy, champion: str | None) -> tuple[State, Refusal | None]:
            return governor.begin(state, run), None

        state = await self._governing.change(event.pipeline, change)
        current = state.running if state else None
        if current and current.id != event.id:
            return _failed(event, Unfit("superseded", f"training {current.id} has this pipeline's one place"))
        attempts = current.attempts if current else 1
        log.info("training", pipeline=event.pipeline, run=event.id, trigger=granted.trigger, attempt=attempts)
        if attempts > self._settings.max_attempts:
            why = f"its process was killed {attempts - 1} times, perhaps for want of memory"
            return _failed(event, Unfit("killed", why))
        return None

    async def _train(self, event: TrainingGranted, started: float) -> ModelTrained | TrainingFailed:
        try:
            manifest = await self._store.document(event.data.dataset, DatasetManifest)
            spec = await self._store.document(event.data.spec, PipelineSpec)
            with TemporaryDirectory(prefix="tidemill-training-") as folder:
                job = await self._job(event, manifest, spec, Path(folder))
                result = await self._run(job, Progress(self._bus, event, self._settings.progress_seconds, started))
                if isinstance(result, Unfit):
                    return _failed(event, result)
                model = await keep(self._store, event, manifest, spec, job, result, self._code_version, started)
        except Poison as error:  # an object is not what its reference says: the training ends, nobody waits for it
            return _failed(event, Unfit(error.code, str(error)))
        learned = result.choice["taken"] if result.choice else None
        log.info(
            "trained",
            pipeline=event.pipeline,
            version=model.version,
            family=model.family,
            rows=learned,
            seconds=model.seconds,
        )
        return ModelTrained.caused_by(event, model, subject=f"{event.pipeline}/{model.version}")

    async def _run(self, job: Job, progress: Progress) -> Trained | Unfit:
        limit = self._settings.limit_seconds
        try:
            return await self._child.run(train, job, on_progress=progress, timeout_seconds=limit)
        except TimeoutError:
            return Unfit("too_slow", f"it had not ended after {limit:.0f} s")

    async def _job(self, event: TrainingGranted, manifest: DatasetManifest, spec: PipelineSpec, folder: Path) -> Job:
        since = event.data.rows.since
        # A person who names rows means them.
        evidence = spec.retrain.rows == "evidence" and since is not None and event.data.trigger != "operator"

        def late(part: Part) -> bool:
            return since is None or (part.time_max is not None and part.time_max >= since)

        async def paths(split: str, *, older: bool = False) -> tuple[Path, ...]:
            parts = [p for p in manifest.parts if p.split == split and p.last_ordinal >= manifest.from_ordinal]
            return tuple([await self._store.cached(p.file) for p in parts if late(p) != older])

        features = [c for c in manifest.columns if c.role == "feature"]
        return Job(
            folder=folder,
            task=manifest.task,
            metric=spec.primary,
            target=spec.target,
            classes=manifest.classes,
            positive=_positive(manifest, spec),
            numeric=tuple(c.name for c in features if c.kind == "numeric"),
            categorical=tuple(c.name for c in features if c.kind == "categorical"),
            train=await paths("train"),
            validation=await paths("validation"),
            older=await paths("train", older=True) if evidence or len(manifest.classes) > SEVERAL else (),
            from_ordinal=manifest.from_ordinal,
            since=since,
            newest=event.data.rows.newest,
            evidence=evidence,
            families=spec.search.families,
            trials=spec.search.trials,
            seconds=spec.search.seconds,
            seed=spec.search.seed,
            jobs=self._settings.jobs,
            importance_rows=self._settings.importance_rows,
            importance_seconds=self._settings.importance_seconds,
            tune_threshold=self._settings.tune_threshold,
        )


def _positive(manifest: DatasetManifest, spec: PipelineSpec) -> Scalar:
    if spec.positive in manifest.classes and spec.positive is not None:
        return spec.positive
    return manifest.classes[-1] if len(manifest.classes) == 2 else None


def _failed(event: TrainingGranted, unfit: Unfit) -> TrainingFailed:
    log.warning("training failed", pipeline=event.pipeline, run=event.id, code=unfit.code, why=unfit.message)
    reason = Reason(code=unfit.code, message=unfit.message[:1000], count=unfit.count)
    failed = FailedTraining(
        run=event.id, trigger=event.data.trigger, dataset=event.data.dataset_version, reasons=(reason,)
    )
    return TrainingFailed.caused_by(event, failed, subject=event.pipeline)
