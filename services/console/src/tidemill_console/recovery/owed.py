"""What the streams must say again after they were lost: every recorded step whose next step left no record."""

from typing import Any, TypeVar

from tidemill_contracts.artifacts import (
    dataset_log_prefix,
    inbox_key,
    model_key,
    package_key,
    promotion_key,
    promotions_prefix,
)
from tidemill_contracts.dataset import DatasetManifest, PreparedDataset
from tidemill_contracts.document import Document
from tidemill_contracts.envelope import Event, child_id
from tidemill_contracts.events import (
    DataArrived,
    DatasetPrepared,
    ModelPackaged,
    ModelPromoted,
    ModelTrained,
    PipelineDeclared,
)
from tidemill_contracts.model import ModelManifest, TrainedModel
from tidemill_contracts.package import PackagedModel, PackageManifest, Parity
from tidemill_contracts.promotion import PromotedModel, Promotion, ValidationReport
from tidemill_contracts.registry import parse_as
from tidemill_shared.append_log import AppendLog
from tidemill_shared.errors import Poison
from tidemill_shared.pipelines import Pipelines
from tidemill_shared.store import Store, reference

DocumentT = TypeVar("DocumentT", bound=Document)
EventT = TypeVar("EventT", bound=Event[Any])
_MANIFEST, _ATTESTATION = "manifest.json", "manifest.dsse.json"


class Owed:
    """Reads the store alone. Events have the ids they had, so that to publish one that was not lost is harmless."""

    def __init__(self, store: Store, pipelines: Pipelines) -> None:
        self._store = store
        self._pipelines = pipelines

    async def events(self) -> list[Event[Any]]:
        """What to publish, causes before effects. Raises StoreUnavailable, Poison for a damaged record."""
        found: list[Event[Any]] = []
        for name in self._pipelines.names():
            declared = await self._pipelines.declared(name)
            if declared:
                found.append(PipelineDeclared.root(declared, subject=name, source="urn:tidemill:console"))
        found += await self._accepted()
        for name in self._pipelines.names():
            models = await self._models(name)
            promotions = await AppendLog(self._store, promotions_prefix(name), Promotion).entries()
            found += await self._untrained(name, models)
            found += await self._unpackaged(name, models)
            found += await self._unpromoted(name, {p.version for _, p in promotions})
            found += [await self._champion(promotions[-1][1])] if promotions else []
        return found

    async def _accepted(self) -> list[DataArrived]:
        """Accepted events without an outcome."""
        done = {key.removeprefix("outcomes/") for key in await self._store.list("outcomes/")}
        inbox = [key.removeprefix("inbox/") for key in await self._store.list("inbox/")]
        bodies = [await self._store.read(f"inbox/{name}") for name in inbox if name not in done]
        return [parse_as(DataArrived, body) for body in bodies if body is not None]

    async def _models(self, pipeline: str) -> dict[str, ModelManifest]:
        keys = await self._store.list(f"models/{pipeline}/")
        versions = [key.split("/")[2] for key in keys if key.endswith(f"/{_MANIFEST}")]
        return {v: await self._manifest(model_key(pipeline, v, _MANIFEST), ModelManifest) for v in versions}

    async def _manifest(self, key: str, document: type[DocumentT]) -> DocumentT:
        found = await self._store.read_document(key, document)
        if found is None:
            raise Poison("missing", f"{key} has vanished")
        return found

    async def _untrained(self, pipeline: str, models: dict[str, ModelManifest]) -> list[Event[Any]]:
        """Datasets that are newer than what any model was trained on."""
        log = await AppendLog(self._store, dataset_log_prefix(pipeline), PreparedDataset).entries()
        trained = {model.dataset_version for model in models.values()}
        last = max((sequence for sequence, made in log if made.version in trained), default=0)
        return [await self._prepared(made) for sequence, made in log if sequence > last]

    async def _prepared(self, made: PreparedDataset) -> DatasetPrepared:
        subject = f"{made.pipeline}/{made.version}"
        cause = (await self._store.document(made.manifest, DatasetManifest)).causes[0]
        body = await self._store.read(inbox_key(cause))
        if body is not None:
            return DatasetPrepared.caused_by(parse_as(DataArrived, body), made, subject=subject)
        return _again(DatasetPrepared, cause, made, subject)

    async def _unpackaged(self, pipeline: str, models: dict[str, ModelManifest]) -> list[Event[Any]]:
        """Models without a signed package."""
        keys = set(await self._store.list(f"packages/{pipeline}/"))
        return [
            _again(ModelTrained, model.causes[-1], _trained(model), f"{pipeline}/{version}")
            for version, model in models.items()
            if package_key(pipeline, version, _ATTESTATION) not in keys
        ]

    async def _unpromoted(self, pipeline: str, promoted: set[str]) -> list[Event[Any]]:
        """Packages without a judgement, or with one that says to promote them and was not carried out."""
        keys = await self._store.list(f"packages/{pipeline}/")
        versions = {key.split("/")[2] for key in keys if key.endswith(f"/{_ATTESTATION}")} - promoted
        judged: dict[str, bool] = {}
        for key in await self._store.list(f"reports/{pipeline}/"):
            version = key.split("/")[2]
            if version in versions:
                report = await self._manifest(key, ValidationReport)
                judged[version] = judged.get(version, False) or report.promote
        return [await self._packaged(pipeline, v) for v in sorted(versions) if judged.get(v, True)]

    async def _packaged(self, pipeline: str, version: str) -> ModelPackaged:
        key, proof = (package_key(pipeline, version, name) for name in (_MANIFEST, _ATTESTATION))
        data, signed = await self._store.read(key), await self._store.read(proof)
        if data is None or signed is None:
            raise Poison("missing", f"{key} or its signature has vanished")
        package = PackageManifest.from_json(data)
        payload = PackagedModel(
            pipeline=pipeline,
            version=version,
            manifest=reference(key, data),
            attestation=reference(proof, signed),
            dataset_version=package.dataset_version,
            size=package.files["model.onnx"].size,
            parity=await self._store.document(package.files["parity.json"], Parity),
            seconds=0.0,
        )
        return _again(ModelPackaged, package.causes[0], payload, f"{pipeline}/{version}")

    async def _champion(self, promotion: Promotion) -> ModelPromoted:
        pipeline, version = promotion.pipeline, promotion.version
        key = promotion_key(pipeline, promotion.sequence)
        data = await self._store.read(key)
        if data is None:
            raise Poison("missing", f"{key} has vanished")
        payload = PromotedModel(
            pipeline=pipeline,
            version=version,
            sequence=promotion.sequence,
            kind=promotion.kind,
            promotion=reference(key, data),
            manifest=promotion.manifest,
            attestation=promotion.attestation,
            previous=promotion.previous,
            reason=promotion.reason,
        )
        return _again(ModelPromoted, promotion.cause, payload, f"{pipeline}/{version}")


def _trained(model: ModelManifest) -> TrainedModel:
    key = model_key(model.pipeline, model.version, _MANIFEST)
    return TrainedModel(
        pipeline=model.pipeline,
        version=model.version,
        manifest=reference(key, model.to_json()),
        dataset_version=model.dataset_version,
        family=model.family,
        metrics=model.metrics,
        rows=model.rows,
        trigger=model.trigger,
        seconds=0.0,
    )


def _again(event: type[EventT], cause: str, payload: Document, subject: str) -> EventT:
    """The event as its service published it: its id is a function of its cause."""
    made = event.root(
        payload,
        subject=subject,
        source=f"urn:tidemill:{event.publishers[0]}",
        id=child_id(cause, event.type_name(), subject),
    )
    return made.model_copy(update={"causationid": cause, "correlationid": cause})
