"""Packages as the judge may trust them: signature first, then digests, then content."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.model import ModelManifest
from tidemill_contracts.names import Version
from tidemill_contracts.package import Attestation, PackageManifest, Signature
from tidemill_contracts.promotion import Anchor, Promotion
from tidemill_shared.errors import ObjectMissing, Poison
from tidemill_shared.log import logger
from tidemill_shared.signing import Verifier
from tidemill_shared.store import Store
from tidemill_validation.job import Candidate

log = logger(__name__)
DAMAGED = (Poison, ObjectMissing, ValidationError, KeyError)


@dataclass(frozen=True)
class Champion:
    """The promoted package, ready to be compared with."""

    version: Version
    candidate: Candidate | None
    """None: it cannot be compared with; ``why`` says why."""
    since: datetime | None = None
    """Older rows are from before a change that it answered."""
    why: str = ""


class Packages:
    """Reads packages."""

    def __init__(self, store: Store, verifier: Verifier) -> None:
        self._store = store
        self._verifier = verifier

    async def verified(
        self, pipeline: str, version: str, manifest: ArtifactRef, attestation: ArtifactRef
    ) -> PackageManifest:
        """The manifest our packager signed. Raises Poison when it did not, or signed it for another model."""
        signed = await self._store.document(attestation, Attestation)
        self._verifier.verify(signed, manifest.key, manifest.sha256)
        package = await self._store.document(manifest, PackageManifest)
        if (package.pipeline, package.version) != (pipeline, version):
            raise Poison("manifest", f"{manifest.key} is of another model than {pipeline}/{version}")
        return package

    async def promoted(self, entry: Promotion | Anchor) -> PackageManifest:
        """The manifest of a package that the registry names."""
        return await self.verified(entry.pipeline, entry.version, entry.manifest, entry.attestation)

    async def candidate(self, package: PackageManifest) -> Candidate:
        """The model's bytes and how to call them. Raises ChecksumMismatch."""
        signature = await self._store.document(package.files["signature.json"], Signature)
        return Candidate(
            onnx=await self._store.get(package.files["model.onnx"]),
            numeric=signature.numeric,
            categorical=signature.categorical,
            classes=signature.classes,
            positive=signature.positive,
            threshold=signature.threshold,
            target=signature.target,
        )

    async def model(self, package: PackageManifest) -> ModelManifest:
        """What training stated."""
        return await self._store.document(package.model, ModelManifest)

    async def champion(self, promotion: Promotion, challenger: PackageManifest, target: str) -> Champion:
        """To compare ``challenger`` with. A champion that is damaged, or answers another question, protects nobody:
        it must not keep a sound model out."""
        version = promotion.version
        try:
            package = await self.verified(promotion.pipeline, version, promotion.manifest, promotion.attestation)
            candidate = await self.candidate(package)
        except DAMAGED as error:
            log.error("the champion cannot be read", pipeline=promotion.pipeline, version=version, why=str(error))
            return Champion(version, None, why=f"the champion {version} cannot be read: {error}"[:900])
        if (package.task, candidate.target) != (challenger.task, target):
            return Champion(version, None, why=f"the champion {version} answers another question")
        return Champion(version, candidate, await self._since(package))

    async def _since(self, package: PackageManifest) -> datetime | None:
        try:
            return (await self.model(package)).selection.since
        except DAMAGED as error:  # it can be compared with all the same, on all rows
            log.error("the champion's rows are not known", pipeline=package.pipeline, why=str(error))
            return None
