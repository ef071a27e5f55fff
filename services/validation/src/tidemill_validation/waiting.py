"""The refused candidate that may still show its gain: rows that arrive later are unseen by it and by the champion."""

from typing import Any

from tidemill_contracts.artifacts import ArtifactRef
from tidemill_contracts.document import Document
from tidemill_contracts.names import Version
from tidemill_contracts.promotion import ValidationReport
from tidemill_contracts.streams import state_key
from tidemill_shared.service import Service

_UNPROVEN = frozenset({"no_significant_gain", "too_few_test_rows"})
"""Refusals for want of evidence; every other one stands."""


class Candidate(Document):
    """A refused candidate and the champion it was compared with."""

    version: Version
    manifest: ArtifactRef
    attestation: ArtifactRef
    against: Version


class Waiting:
    """One candidate a pipeline, the newest; it does not outlive Redis, since the next one comes anyway."""

    def __init__(self, service: Service) -> None:
        self._bus = service.bus

    def _key(self, pipeline: str) -> str:
        return state_key(self._bus.namespace, "validation", f"candidate:{pipeline}")

    async def note(self, report: ValidationReport, attestation: ArtifactRef) -> None:
        """Keep a refused candidate if only evidence was missing."""
        if report.against is None or not {r.code for r in report.reasons} <= _UNPROVEN:
            return
        candidate = Candidate(
            version=report.version, manifest=report.package, attestation=attestation, against=report.against
        )
        await self._bus.redis.set(self._key(report.pipeline), candidate.to_json())

    async def get(self, pipeline: str) -> Candidate | None:
        """The candidate that waits."""
        raw: Any = await self._bus.redis.get(self._key(pipeline))
        return Candidate.from_json(raw) if raw else None

    async def drop(self, pipeline: str) -> None:
        """It is not waited for any more."""
        await self._bus.redis.delete(self._key(pipeline))
