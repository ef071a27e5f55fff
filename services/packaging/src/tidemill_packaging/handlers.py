"""From ``model.trained`` to a package that is a proof, or to the reason why it is none."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill_contracts.dataset import DatasetManifest, Reason, Split
from tidemill_contracts.events import ModelPackaged, ModelTrained, PackagingFailed
from tidemill_contracts.model import Evaluation, Explanation, ModelManifest
from tidemill_contracts.package import FailedPackaging, PackagedModel
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_packaging.documents import Sources, documents
from tidemill_packaging.job import Job, Unpackable
from tidemill_packaging.keeping import Keeper
from tidemill_packaging.settings import PackagingGroup
from tidemill_packaging.work import PRELOAD, pack
from tidemill_shared.child import Bounds, Child
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.signing import Signer
from tidemill_shared.telemetry import counter, histogram

log = logger(__name__)


class Packager:
    """The one handler, and the child that converts."""

    def __init__(self, service: Service, signer: Signer, settings: PackagingGroup, code_version: str) -> None:
        self._store = service.store
        self._settings = settings
        self._keeper = Keeper(service.store, signer, settings, code_version)
        self.child = Child(PRELOAD, service="packaging", bounds=Bounds.of_machine())

    async def on_model_trained(self, event: ModelTrained) -> ModelPackaged | PackagingFailed:
        """Convert, compare, describe, replay, sign, store, announce; a package that is there already is announced."""
        started = time.monotonic()
        model = await self._store.document(event.data.manifest, ModelManifest)
        package = await self._keeper.known(model, started) or await self._package(event, model, started)
        outcome = "failed" if isinstance(package, Unpackable) else "packaged"
        counter("tidemill.packaging.packages").add(1, {"pipeline": event.pipeline, "outcome": outcome})
        histogram("tidemill.packaging.duration").record(time.monotonic() - started, {"pipeline": event.pipeline})
        if isinstance(package, PackagedModel):
            log.info("packaged", pipeline=event.pipeline, version=model.version, seconds=package.seconds)
            return ModelPackaged.caused_by(event, package, subject=event.subject)
        log.warning(
            "packaging failed", pipeline=event.pipeline, version=model.version, step=package.step, why=package.message
        )
        reason = Reason(code=package.code, message=package.message[:1000])
        failed = FailedPackaging(pipeline=event.pipeline, version=model.version, step=package.step, reasons=(reason,))
        return PackagingFailed.caused_by(event, failed, subject=event.subject)

    async def _package(self, event: ModelTrained, model: ModelManifest, started: float) -> PackagedModel | Unpackable:
        missing = {"model.skops", "evaluation.json", "explanation.json"} - set(model.files)
        if missing:
            return Unpackable("load", "incomplete", f"the model's manifest lacks {', '.join(sorted(missing))}")
        spec = await self._store.document(model.spec, PipelineSpec)
        with TemporaryDirectory(prefix="tidemill-packaging-") as folder:
            job = await self._job(model, spec, Path(folder))
            try:
                packed = await self.child.run(pack, job, timeout_seconds=self._settings.limit_seconds)
            except TimeoutError:
                return Unpackable("convert", "too_slow", f"not done within {self._settings.limit_seconds:.0f} s")
            if isinstance(packed, Unpackable):
                return packed
            sources = Sources(
                model,
                spec,
                await self._store.document(model.files["evaluation.json"], Evaluation),
                await self._store.document(model.files["explanation.json"], Explanation),
            )
            return await self._keeper.keep(event, model, job.folder, documents(sources, packed), started)

    async def _job(self, model: ModelManifest, spec: PipelineSpec, folder: Path) -> Job:
        dataset = await self._store.document(model.dataset, DatasetManifest)
        return Job(
            folder=folder,
            model=await self._store.get_file(model.files["model.skops"], folder / "model.skops"),
            task=model.task,
            metric=spec.primary,
            target=model.target,
            classes=model.classes,
            positive=model.positive,
            threshold=model.threshold,
            numeric=tuple(f.name for f in model.features if f.kind == "numeric"),
            categorical=tuple(f.name for f in model.features if f.kind == "categorical"),
            train=await self._paths(model, dataset, "train"),
            validation=await self._paths(model, dataset, "validation"),
            test=await self._paths(model, dataset, "test"),
            pooled=not model.rows.get("validation"),
            from_ordinal=dataset.from_ordinal,
            since=model.selection.since,
            newest=model.selection.newest,
            opset=self._settings.opset,
            parity_rows=self._settings.parity_rows,
            golden_rows=self._settings.golden_rows,
            reference_rows=self._settings.reference_rows,
            seed=model.seed,
        )

    async def _paths(self, model: ModelManifest, dataset: DatasetManifest, split: Split) -> tuple[Path, ...]:
        """Verified local copies of the parts that can hold rows of the model's selection, oldest first."""
        since = model.selection.since
        parts = [p for p in dataset.parts if p.split == split and p.last_ordinal >= dataset.from_ordinal]
        parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
        return tuple([await self._store.cached(p.file) for p in sorted(parts, key=lambda part: part.first_ordinal)])
