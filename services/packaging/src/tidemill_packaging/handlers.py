"""From ``model.trained`` to a package that is a proof, or to the reason why it is none."""

import asyncio
import hashlib
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tidemill_contracts.artifacts import ArtifactRef, package_key
from tidemill_contracts.dataset import DatasetManifest, Histogram, Reason
from tidemill_contracts.document import Document, canonical_json
from tidemill_contracts.events import ModelPackaged, ModelTrained, PackagingFailed
from tidemill_contracts.model import Explanation, ModelManifest
from tidemill_contracts.package import (
    FailedPackaging,
    Golden,
    GoldenPrediction,
    PackagedModel,
    PackageManifest,
    Parity,
    Reference,
    ReferenceColumn,
    Signature,
    Tensor,
)
from tidemill_contracts.pipeline import PipelineSpec
from tidemill_packaging.card import model_card
from tidemill_packaging.job import Column, Job, Packed, Unpackable
from tidemill_packaging.settings import PackagingGroup
from tidemill_packaging.work import PRELOAD, pack
from tidemill_shared.child import Child
from tidemill_shared.errors import ChildDied
from tidemill_shared.log import logger
from tidemill_shared.service import Service
from tidemill_shared.signing import Signer
from tidemill_shared.telemetry import counter, histogram

log = logger(__name__)
Step = Literal["load", "convert", "parity", "golden", "reference", "sign", "replay"]
_REPLAY = Path(__file__).with_name("replay.py")
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "skops")


class Packager:
    """The one handler, and the child that converts."""

    def __init__(self, service: Service, signer: Signer, settings: PackagingGroup, code_version: str) -> None:
        self._store = service.store
        self._signer = signer
        self._settings = settings
        self._code_version = code_version
        self._versions = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
        self.child = Child(PRELOAD, service="packaging")

    async def on_model_trained(self, event: ModelTrained) -> ModelPackaged | PackagingFailed:
        """Convert, compare, describe, replay, sign, store, announce."""
        started = time.monotonic()
        model = await self._store.document(event.data.manifest, ModelManifest)
        with TemporaryDirectory(prefix="tidemill-packaging-") as folder:
            job = await self._job(model, Path(folder))
            try:
                packed = await self.child.run(pack, job, timeout_seconds=self._settings.limit_seconds)
            except (ChildDied, TimeoutError) as error:
                packed = Unpackable("convert", "child_died", str(error) or "time is up")
            if isinstance(packed, Packed):
                documents = await self._documents(model, packed)
                proof = await self._replay(job.folder, documents)
                if isinstance(proof, bytes):
                    package = await self._keep(event, model, packed, job.folder, documents, proof, started)
                    counter("tidemill.packaging.packages").add(1, {"pipeline": event.pipeline, "outcome": "packaged"})
                    seconds = time.monotonic() - started
                    histogram("tidemill.packaging.duration").record(seconds, {"pipeline": event.pipeline})
                    return ModelPackaged.caused_by(event, package, subject=event.subject)
                packed = proof
        counter("tidemill.packaging.packages").add(1, {"pipeline": event.pipeline, "outcome": "failed"})
        log.warning("packaging failed", pipeline=event.pipeline, version=model.version, why=packed.message)
        failed = FailedPackaging.model_validate(
            {
                "pipeline": event.pipeline,
                "version": model.version,
                "step": packed.step,
                "reasons": [Reason(code=packed.code, message=packed.message[:1000])],
            }
        )
        return PackagingFailed.caused_by(event, failed, subject=event.subject)

    async def _job(self, model: ModelManifest, folder: Path) -> Job:
        dataset = await self._store.document(model.dataset, DatasetManifest)
        spec = await self._store.document(model.spec, PipelineSpec)

        async def paths(split: str) -> tuple[Path, ...]:
            parts = [p for p in dataset.parts if p.split == split and p.last_ordinal >= dataset.from_ordinal]
            since = model.selection.since
            parts = [p for p in parts if since is None or (p.time_max is not None and p.time_max >= since)]
            return tuple([await self._store.cached(p.file) for p in parts])

        return Job(
            folder=folder,
            model=await self._store.get_file(model.files["model.skops"], folder / "model.skops"),
            task=model.task,
            family=model.family,
            metric=spec.primary,
            target=model.target,
            classes=model.classes,
            positive=model.positive,
            numeric=tuple(f.name for f in model.features if f.kind == "numeric"),
            categorical=tuple(f.name for f in model.features if f.kind == "categorical"),
            train=await paths("train"),
            validation=await paths("validation"),
            from_ordinal=dataset.from_ordinal,
            since=model.selection.since,
            newest=model.selection.newest,
            opset=self._settings.opset,
            parity_rows=self._settings.parity_rows,
            golden_rows=self._settings.golden_rows,
            reference_rows=self._settings.reference_rows,
            seed=model.seed,
        )

    async def _documents(self, model: ModelManifest, packed: Packed) -> dict[str, Document]:
        spec = await self._store.document(model.spec, PipelineSpec)
        explanation = await self._store.document(model.files["explanation.json"], Explanation)
        importance = {i.feature: i.mean for i in explanation.importances}
        signature = Signature.model_validate(
            {
                "task": model.task,
                "numeric": [f.name for f in model.features if f.kind == "numeric"],
                "categorical": [f.name for f in model.features if f.kind == "categorical"],
                "categories": model.categories,
                "unknown_categories": spec.unknown_categories,
                "inputs": [Tensor.model_validate(_tensor(t)) for t in packed.inputs],
                "outputs": [Tensor.model_validate(_tensor(t)) for t in packed.outputs],
                "target": model.target,
                "classes": model.classes,
                "positive": model.positive,
                "threshold": model.threshold,
            }
        )
        golden = Golden(
            tolerance=max(1e-4, 2 * packed.maximum),
            predictions=tuple(
                GoldenPrediction(features=features, prediction=prediction, probabilities=probabilities)
                for features, prediction, probabilities in packed.golden
            ),
        )
        reference = Reference(
            rows=packed.columns[0].rows if packed.columns else 0,
            columns=tuple(_column(c, importance.get(c.name, 0.0)) for c in packed.columns),
            prediction=_column(packed.prediction),
            target=_column(packed.target),
            metric=spec.primary,
            score=packed.score,
            error=packed.error,
            error_rows=packed.error_rows,
            target_scale=packed.target_scale,
        )
        parity = Parity(
            rows=packed.rows,
            label_agreement=packed.label_agreement,
            metric=spec.primary,
            trained=packed.trained,
            packaged=packed.packaged,
            p999=packed.p999,
            maximum=packed.maximum,
        )
        return {
            "signature.json": signature,
            "golden.json": golden,
            "reference.json": reference,
            "parity.json": parity,
        }

    async def _replay(self, folder: Path, documents: dict[str, Document]) -> bytes | Unpackable:
        for name in ("golden.json", "signature.json"):
            (folder / name).write_bytes(documents[name].to_json())
        files = [str(folder / name) for name in ("model.onnx", "golden.json", "signature.json")]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_REPLAY),
            *files,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": ""},
        )
        try:
            async with asyncio.timeout(self._settings.replay_seconds):
                out, err = await process.communicate()
        except TimeoutError:
            return Unpackable("replay", "too_slow", f"no answer within {self._settings.replay_seconds:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            return Unpackable("replay", "not_replayed", err.decode(errors="replace").strip()[-900:] or "it failed")
        return out.strip().splitlines()[-1]

    async def _keep(
        self,
        event: ModelTrained,
        model: ModelManifest,
        packed: Packed,
        folder: Path,
        documents: dict[str, Document],
        proof: bytes,
        started: float,
    ) -> PackagedModel:
        def key(name: str) -> str:
            return package_key(model.pipeline, model.version, name)

        parity = documents["parity.json"]
        assert isinstance(parity, Parity)  # noqa: S101 - made above
        contents = {name: document.to_json() for name, document in documents.items()}
        contents["model.onnx"] = (folder / "model.onnx").read_bytes()
        contents["replay.json"] = proof
        contents["model-card.md"] = model_card(model, parity).encode()
        refs = await asyncio.gather(*(self._store.put(key(name), data) for name, data in sorted(contents.items())))
        files: dict[str, ArtifactRef] = dict(zip(sorted(contents), refs, strict=True))
        manifest = PackageManifest(
            pipeline=model.pipeline,
            version=model.version,
            task=model.task,
            family=model.family,
            files=files,
            model=event.data.manifest,
            dataset=model.dataset,
            dataset_version=model.dataset_version,
            spec=model.spec,
            causes=(event.id,),
            opset=self._settings.opset,
            environment={name: self._versions[name] for name in _LIBRARIES if name in self._versions},
            environment_lock=hashlib.sha256(canonical_json(self._versions)).hexdigest(),
            code_version=self._code_version,
        )
        ref = await self._store.put_document(key("manifest.json"), manifest)
        attestation = self._signer.attest(ref.key, ref.sha256)
        signed = await self._store.put_document(key("manifest.dsse.json"), attestation)
        return PackagedModel(
            pipeline=model.pipeline,
            version=model.version,
            manifest=ref,
            attestation=signed,
            dataset_version=model.dataset_version,
            size=files["model.onnx"].size,
            parity=parity,
            seconds=round(time.monotonic() - started, 3),
        )


def _tensor(described: tuple[str, str, tuple[int, ...]]) -> dict[str, Any]:
    name, datatype, shape = described
    return {"name": name, "datatype": datatype, "shape": shape}


def _column(c: Column, importance: float = 0.0) -> ReferenceColumn:
    return ReferenceColumn.model_validate(
        {
            "name": c.name,
            "kind": c.kind,
            "rows": c.rows,
            "missing": c.missing,
            "histogram": Histogram(edges=c.edges, counts=c.counts) if c.counts else None,
            "categories": c.categories or {},
            "minimum": c.minimum,
            "maximum": c.maximum,
            "mean": c.mean,
            "std": c.std,
            "importance": importance,
        }
    )
