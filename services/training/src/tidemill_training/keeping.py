"""Storing a trained model: files first, the manifest last."""

import asyncio
import time
from importlib.metadata import version as installed

from tidemill_contracts.artifacts import ArtifactRef, model_key
from tidemill_contracts.dataset import DatasetManifest
from tidemill_contracts.document import content_version
from tidemill_contracts.events import TrainingGranted
from tidemill_contracts.model import (
    CalibrationBin,
    Evaluation,
    Explanation,
    Importance,
    ModelManifest,
    RowChoice,
    TrainedModel,
)
from tidemill_contracts.pipeline import Feature, PipelineSpec
from tidemill_shared.store import Store, file_reference, reference
from tidemill_training.job import Job, Trained


async def keep(
    store: Store,
    event: TrainingGranted,
    dataset: DatasetManifest,
    spec: PipelineSpec,
    job: Job,
    result: Trained,
    code_version: str,
    started: float,
) -> TrainedModel:
    """Write the model's files and manifest under its version: a digest of what it was made from and of its bytes.

    A version that is there already stays as it is: others refer to the digests of its files.
    """
    path = job.folder / "model.skops"
    model = await asyncio.to_thread(file_reference, path.name, path)
    selection = event.data.rows.to_json()
    version = content_version(dataset.version, spec.version, selection, str(job.seed), code_version, model.sha256)
    pipeline = event.pipeline
    key = model_key(pipeline, version, "manifest.json")
    first = await store.read(key)
    if first is not None:
        return _announced(ModelManifest.from_json(first), reference(key, first), event, result, started)
    files = {
        "model.skops": await store.put_file(model_key(pipeline, version, "model.skops"), path),
        "evaluation.json": await store.put_document(
            model_key(pipeline, version, "evaluation.json"), _evaluation(result)
        ),
        "explanation.json": await store.put_document(
            model_key(pipeline, version, "explanation.json"), _explanation(job, result)
        ),
    }
    manifest = _manifest(event, dataset, spec, job, result, files, version, code_version)
    return _announced(manifest, await store.put_document(key, manifest), event, result, started)


def _announced(
    manifest: ModelManifest, ref: ArtifactRef, event: TrainingGranted, result: Trained, started: float
) -> TrainedModel:
    return TrainedModel(
        pipeline=manifest.pipeline,
        version=manifest.version,
        manifest=ref,
        dataset_version=manifest.dataset_version,
        family=manifest.family,
        metrics=manifest.metrics,
        rows=manifest.rows,
        trigger=event.data.trigger,
        seconds=round(time.monotonic() - started, 3),
        cpu_seconds=result.cpu_seconds,
    )


def _evaluation(result: Trained) -> Evaluation:
    return Evaluation(
        rows=result.judged_rows,
        metrics=result.metrics,
        baseline=result.baseline,
        calibration=tuple(CalibrationBin(predicted=p, observed=o, rows=n) for p, o, n in result.calibration),
        confusion=result.confusion,
        trials=result.trials,
    )


def _explanation(job: Job, result: Trained) -> Explanation:
    importances = tuple(Importance(feature=f, mean=m, std=s, error=e) for f, m, s, e in result.importances)
    return Explanation(metric=job.metric, importances=importances)


def _manifest(
    event: TrainingGranted,
    dataset: DatasetManifest,
    spec: PipelineSpec,
    job: Job,
    result: Trained,
    files: dict[str, ArtifactRef],
    version: str,
    code_version: str,
) -> ModelManifest:
    numeric = [Feature(name=n, kind="numeric") for n in job.numeric]
    return ModelManifest(
        pipeline=event.pipeline,
        version=version,
        task=dataset.task,
        family=result.family,
        parameters=result.parameters,
        features=(*numeric, *(Feature(name=n, kind="categorical") for n in job.categorical)),
        categories=result.categories,
        target=spec.target,
        classes=dataset.classes,
        positive=job.positive,
        threshold=result.threshold,
        files=files,
        metrics=result.metrics,
        dataset=event.data.dataset,
        dataset_version=dataset.version,
        selection=event.data.rows,
        row_choice=RowChoice.model_validate(result.choice) if result.choice else None,
        rows=result.rows,
        spec=event.data.spec,
        trigger=event.data.trigger,
        causes=(*event.data.causes, event.id),
        seed=job.seed,
        code_version=code_version,
        environment=result.environment | {"tidemill-training": installed("tidemill-training")},
    )
