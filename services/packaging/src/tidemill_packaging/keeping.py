"""Packages in the store: written once, signed, found again."""

import asyncio
import hashlib
import time
from importlib.metadata import distributions
from pathlib import Path

from pydantic import ValidationError

from tidemill_contracts.artifacts import ArtifactRef, package_key
from tidemill_contracts.document import canonical_json
from tidemill_contracts.events import ModelTrained
from tidemill_contracts.model import ModelManifest
from tidemill_contracts.package import Attestation, PackagedModel, PackageManifest, Parity
from tidemill_packaging.documents import Documents
from tidemill_packaging.job import Unpackable
from tidemill_packaging.replaying import replay
from tidemill_packaging.settings import PackagingGroup
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing
from tidemill_shared.log import logger
from tidemill_shared.signing import Signer
from tidemill_shared.store import Store, reference

log = logger(__name__)
_MANIFEST, _ATTESTATION, _MODEL, _PROOF = "manifest.json", "manifest.dsse.json", "model.onnx", "replay.json"
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "pandas", "scikit-learn", "skl2onnx", "skops")


class Keeper:
    """Replays, signs and stores packages."""

    def __init__(self, store: Store, signer: Signer, settings: PackagingGroup, code_version: str) -> None:
        self._store = store
        self._signer = signer
        self._settings = settings
        self._code_version = code_version
        self._versions = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}

    async def known(self, model: ModelManifest, started: float) -> PackagedModel | None:
        """The package of this model version, if we have signed one: promotions name it by digest, so it stays."""
        key = package_key(model.pipeline, model.version, _MANIFEST)
        data = await self._store.read(key)
        signed = await self._store.read(package_key(model.pipeline, model.version, _ATTESTATION))
        if data is None or signed is None:
            return None
        ref = reference(key, data)
        try:
            if Attestation.from_json(signed) != self._signer.attest(ref.key, ref.sha256):
                return None
            manifest = PackageManifest.from_json(data)
            parity = await self._store.document(manifest.files["parity.json"], Parity)
        except (ValidationError, KeyError, ChecksumMismatch, ObjectMissing) as error:
            log.warning("an earlier package is damaged and made anew", manifest=key, why=type(error).__name__)
            return None
        attestation = reference(package_key(model.pipeline, model.version, _ATTESTATION), signed)
        return _announced(manifest, ref, attestation, parity, started)

    async def keep(
        self, event: ModelTrained, model: ModelManifest, folder: Path, made: Documents, started: float
    ) -> PackagedModel | Unpackable:
        """Replay and upload at the same time, then the manifest, then its signature: what has a signature is whole."""
        for name, data in made.files.items():
            (folder / name).write_bytes(data)
        contents = made.files | {_MODEL: (folder / _MODEL).read_bytes()}
        proof, uploaded = await asyncio.gather(
            replay(folder, self._settings.replay_seconds), self._upload(model, contents)
        )
        if isinstance(proof, Unpackable):
            return proof
        manifest = self._manifest(event, model, uploaded | await self._upload(model, {_PROOF: proof}))
        ref = await self._store.put_document(package_key(model.pipeline, model.version, _MANIFEST), manifest)
        attestation = self._signer.attest(ref.key, ref.sha256)
        signed = await self._store.put_document(package_key(model.pipeline, model.version, _ATTESTATION), attestation)
        return _announced(manifest, ref, signed, made.parity, started)

    async def _upload(self, model: ModelManifest, contents: dict[str, bytes]) -> dict[str, ArtifactRef]:
        names = sorted(contents)
        puts = (self._store.put(package_key(model.pipeline, model.version, n), contents[n]) for n in names)
        return dict(zip(names, await asyncio.gather(*puts), strict=True))

    def _manifest(self, event: ModelTrained, model: ModelManifest, files: dict[str, ArtifactRef]) -> PackageManifest:
        return PackageManifest(
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


def _announced(
    manifest: PackageManifest, ref: ArtifactRef, attestation: ArtifactRef, parity: Parity, started: float
) -> PackagedModel:
    return PackagedModel(
        pipeline=manifest.pipeline,
        version=manifest.version,
        manifest=ref,
        attestation=attestation,
        dataset_version=manifest.dataset_version,
        size=manifest.files[_MODEL].size,
        parity=parity,
        seconds=round(time.monotonic() - started, 3),
    )
