"""Which models were promoted, and what each was trained on: from the registry, kept up by events."""

import time
from base64 import b64decode

import numpy as np
from pydantic import ValidationError

from tidemill_contracts.artifacts import ArtifactRef, promotion_key
from tidemill_contracts.dataset import Histogram
from tidemill_contracts.names import Version
from tidemill_contracts.package import PackageManifest, ReferenceColumn
from tidemill_contracts.package import Reference as ReferenceDocument
from tidemill_contracts.promotion import Promotion
from tidemill_monitoring.domain.monitor import Champion
from tidemill_monitoring.domain.reference import (
    Reference,
    ReferenceSample,
    categorical_column,
    importance_shares,
    numeric_column,
)
from tidemill_monitoring.domain.reference import ReferenceColumn as Column
from tidemill_shared.errors import ChecksumMismatch, ObjectMissing
from tidemill_shared.log import logger
from tidemill_shared.store import Store

log = logger(__name__)
_REFERENCE_FILE = "reference.json"
_LOOK_AGAIN_SECONDS = 1.0


class Promotions:
    """The latest promotion of every version, by pipeline. A cache: any replica may lose it at any time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, dict[Version, tuple[int, ArtifactRef]]] = {}
        self._read_to: dict[str, int] = {}
        self._looked: dict[str, float] = {}
        self._references: dict[str, Reference | None] = {}

    def note(self, pipeline: str, version: Version, sequence: int, manifest: ArtifactRef) -> None:
        """Remember a promotion an event told of."""
        latest = self._latest.setdefault(pipeline, {})
        if version not in latest or latest[version][0] < sequence:
            latest[version] = (sequence, manifest)

    async def champion(self, pipeline: str, version: Version, *, beyond: int) -> Champion | None:
        """The latest promotion of a version, if it is later than number ``beyond``. Raises StoreUnavailable.

        The registry is asked when no such promotion is known here, at most once a second: an answer may overtake
        the event that told of the promotion.
        """
        found = self._latest.get(pipeline, {}).get(version)
        if found is None or found[0] <= beyond:
            await self._look(pipeline)
            found = self._latest.get(pipeline, {}).get(version)
        if found is None or found[0] <= beyond:
            return None
        return Champion(version, found[0], await self.reference(found[1]))

    async def _look(self, pipeline: str) -> None:
        now = time.monotonic()
        if now - self._looked.get(pipeline, -_LOOK_AGAIN_SECONDS) < _LOOK_AGAIN_SECONDS:
            return
        self._looked[pipeline] = now
        while True:
            sequence = self._read_to.get(pipeline, 0) + 1
            promotion = await self._store.read_document(promotion_key(pipeline, sequence), Promotion)
            if promotion is None:
                return
            self.note(pipeline, promotion.version, sequence, promotion.manifest)
            self._read_to[pipeline] = sequence

    async def reference(self, manifest: ArtifactRef) -> Reference | None:
        """The reference of a package; None when there is none to be had. Raises StoreUnavailable."""
        if manifest.sha256 not in self._references:
            try:
                package = await self._store.document(manifest, PackageManifest)
                ref = package.files[_REFERENCE_FILE]
                document = await self._store.document(ref, ReferenceDocument)
                self._references[manifest.sha256] = translate(document, ref.sha256)
            except (ObjectMissing, ChecksumMismatch, ValidationError, KeyError) as error:
                # Labels, feedback and the log do not need it, so the monitor goes on without verdicts on inputs.
                log.error("no reference to compare with", manifest=manifest.key, why=f"{type(error).__name__}: {error}")
                self._references[manifest.sha256] = None
        return self._references[manifest.sha256]


def translate(document: ReferenceDocument, digest: str) -> Reference:
    """The document as the domain wants it."""
    share = importance_shares({c.name: (c.importance, c.importance_error) for c in document.columns})
    trained, held = (
        tuple(_column(c, share.get(c.name)) for c in columns) for columns in (document.columns, document.validation)
    )
    prediction = _column(document.prediction)
    scale, sample = document.target_scale, _sample(document)
    return Reference(digest, trained, prediction, document.score, document.error_rows, scale, held, sample)


def _sample(document: ReferenceDocument) -> ReferenceSample | None:
    """The rows that travel with the reference; None from a package that brings none, or an unreadable sample."""
    found, names = document.sample, {c.name: at for at, c in enumerate(document.columns)}
    if found is None or not set(found.columns) <= set(names):
        return None
    codes = np.frombuffer(b64decode(found.bins), np.uint8)
    if len(codes) != found.rows * len(found.columns):
        return None
    return ReferenceSample(tuple(names[c] for c in found.columns), codes.reshape(found.rows, -1))


def _column(column: ReferenceColumn, importance: float | None = None) -> Column:
    if column.kind == "categorical":
        return categorical_column(column.name, column.rows, column.missing, column.categories, importance)
    # Without a single value there is nothing to bin: one bin, which no test judges.
    histogram = column.histogram or Histogram(edges=(), counts=(0,))
    known = column.minimum is not None and column.maximum is not None
    return numeric_column(
        column.name,
        column.rows,
        column.missing,
        list(histogram.edges),
        list(histogram.counts),
        (column.minimum or 0.0, column.maximum or 0.0) if known else None,
        column.std or 0.0,
        importance,
        column.longest_run,
        column.outside,
    )
