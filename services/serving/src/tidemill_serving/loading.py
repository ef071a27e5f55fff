"""From a promotion to a model that may answer: judgement, signature, digests, operators, golden predictions, in this
order."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import ValidationError

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.package import Attestation, Golden, PackageManifest, Signature
from tidemill_contracts.promotion import Promotion, ValidationReport
from tidemill_contracts.rollout import Trial
from tidemill_serving.domain.model import Model
from tidemill_serving.domain.package import model_of, proven
from tidemill_serving.encode import Stamp
from tidemill_serving.reply import Reply
from tidemill_serving.table import TableReader
from tidemill_serving.typed import Reader
from tidemill_shared.errors import Poison
from tidemill_shared.model_bytes import check_model
from tidemill_shared.signing import Verifier
from tidemill_shared.store import Store

Entry = Promotion | Trial
"""A sealed entry of the registry that lets a model be loaded."""


@dataclass(frozen=True)
class Loaded:
    """A model with what its answers are stamped with."""

    model: Model
    version: str
    dataset_version: str
    sequence: int
    manifest: ArtifactRef
    stamp: Stamp = field(init=False)
    reply: Reply = field(init=False)
    reader: Reader = field(init=False, compare=False)
    tables: TableReader = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", Reader(self.model.layout))
        object.__setattr__(self, "tables", TableReader(self.model.layout))
        object.__setattr__(self, "stamp", Stamp(self.version, self.dataset_version, self.model.classes))
        object.__setattr__(self, "reply", Reply(self.model, self.version, self.dataset_version))

    def promoted_again(self, sequence: int) -> Self:
        """The same model under a later promotion: a rollback to it needs no loading."""
        return replace(self, sequence=sequence)


class Loader:
    """Loads packages."""

    def __init__(self, store: Store, verifier: Verifier, threads: int) -> None:
        self._store = store
        self._verifier = verifier
        self._threads = threads

    async def load(self, promotion: Entry) -> Loaded:
        """A proven model. Raises Poison when the package is not what was judged and signed, or answers otherwise."""
        try:
            manifest = await self.verified(promotion)
            signature = await self._store.document(manifest.files["signature.json"], Signature)
            golden = await self._store.document(manifest.files["golden.json"], Golden)
            onnx = await self._store.get(manifest.files["model.onnx"])
        except KeyError as error:
            raise Poison("manifest", f"{promotion.manifest.key} names no file {error}") from None
        except ValidationError as error:
            what = f"{error.title}, {error.error_count()} errors"
            raise Poison("manifest", f"{promotion.version}: a document is not what it should be ({what})") from None
        try:
            model = await asyncio.to_thread(self._build, onnx, signature, golden)
        except Poison:
            raise
        except Exception as error:
            # Whatever a runtime says of these bytes, they will not get better by trying again.
            raise Poison("proof", f"{promotion.version}: {error}") from error
        return Loaded(model, manifest.version, manifest.dataset_version, promotion.sequence, promotion.manifest)

    async def verified(self, promotion: Entry) -> PackageManifest:
        """The package of a promotion, judged and signed; its files are named with their digests.

        Raises Poison when it is not what was judged and signed.
        """
        await self._judged(promotion)
        return await self._signed(promotion)

    async def _judged(self, promotion: Entry) -> None:
        """The report the promotion rests on passed this very package (no model answers without that)."""
        report = await self._store.document(promotion.report, ValidationReport)
        if not report.passed or report.package.sha256 != promotion.manifest.sha256:
            raise Poison("not_validated", f"{promotion.report.key} does not pass {promotion.manifest.key}")

    async def _signed(self, promotion: Entry) -> PackageManifest:
        attestation = await self._store.document(promotion.attestation, Attestation)
        self._verifier.verify(attestation, promotion.manifest.key, promotion.manifest.sha256)
        manifest = await self._store.document(promotion.manifest, PackageManifest)
        if (manifest.pipeline, manifest.version) != (promotion.pipeline, promotion.version):
            raise Poison("manifest", f"{promotion.manifest.key} is of another model than the promotion says")
        return manifest

    def _build(self, onnx: bytes, signature: Signature, golden: Golden) -> Model:
        check_model(onnx)
        model = model_of(onnx, signature.model_dump(mode="json"), self._threads)
        return proven(model, golden.model_dump(mode="json"))
